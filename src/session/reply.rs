//! Where the answer to one request goes.

use std::sync::Arc;

use crate::base::json_text::Json;

use super::session::Session;
use super::wire::AckNumber;
use crate::base::error::Refusal;
use crate::base::trace;
use crate::dialect::Answer;

/// Where the answer to one request goes.
pub(super) struct Reply {
    pub session: Arc<Session>,
    pub event: &'static str,
    pub ack: Option<AckNumber>,
}

impl Reply {
    /// Sends the answer if the client waits for one, or the refusal.
    pub(super) fn send(self, answer: Result<Answer<'_>, Refusal>) {
        let mut span = trace::part("answer");
        let dialect = self.session.dialect();
        match answer {
            Ok(answer) => {
                if let Some(ack) = self.ack
                    && let Some(json) = dialect.answer(&answer)
                {
                    self.answer(ack, &json);
                }
            }
            Err(refusal) => {
                span.say("ordercast.refusal", refusal.code());
                self.refuse(&refusal);
            }
        }
    }

    fn answer(&self, ack: AckNumber, json: &Json) {
        self.session.app().metrics.events_out_reply.inc();
        self.session.answer(ack, json);
    }

    fn refuse(&self, refusal: &Refusal) {
        self.session.app().metrics.rejected(refusal.code());
        refusal.log_fault(self.event);
        if let Some(ack) = self.ack {
            self.answer(ack, &self.session.dialect().failure(refusal));
        } else {
            self.session.app().metrics.events_out_reply.inc();
            self.session.say(&self.session.dialect().error_event(refusal, self.event));
        }
    }
}
