//! What was found, for people line by line and for machines as one JSON document.

use std::io::Write;

use serde::Serialize;

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// A server would run, and somebody should look at it.
    Warn,
    /// A server would not start, or not do what it was set up for.
    Fail,
}

/// One finding. It holds no secret.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub level: Level,
    /// `settings`, `database`, `clock`, `redis`, `keys`, `ports`, `process`, `roads` or `traces`.
    pub area: &'static str,
    pub what: String,
    /// Why it matters; absent for what is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How to mend it, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// All findings. They are printed as they come unless JSON is wanted.
#[derive(Debug, Default)]
pub struct Report {
    json: bool,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    ok: usize,
    warn: usize,
    fail: usize,
    findings: &'a [Finding],
}

impl Report {
    /// An empty report, to be printed as lines or as one JSON document.
    #[must_use]
    pub const fn new(json: bool) -> Self {
        Self { json, findings: Vec::new() }
    }

    /// Something is as it should be.
    pub fn ok(&mut self, area: &'static str, what: impl Into<String>) {
        self.add(Finding { level: Level::Ok, area, what: what.into(), why: None, mend: None });
    }

    /// Something should be looked at.
    pub fn warn(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let (what, why, mend) = (what.into(), Some(why.into()), Some(mend.into()));
        self.add(Finding { level: Level::Warn, area, what, why, mend });
    }

    /// Something does not work.
    pub fn fail(
        &mut self,
        area: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let (what, why, mend) = (what.into(), Some(why.into()), Some(mend.into()));
        self.add(Finding { level: Level::Fail, area, what, why, mend });
    }

    fn add(&mut self, finding: Finding) {
        if !self.json {
            let mut out = std::io::stdout().lock();
            let word = match finding.level {
                Level::Ok => "ok  ",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            // A reader that closes the pipe early, such as `head`, is no error.
            let _ = writeln!(out, "{word}  {:<8}  {}", finding.area, finding.what);
            for (label, text) in [("why ", &finding.why), ("mend", &finding.mend)] {
                if let Some(text) = text {
                    let _ = writeln!(out, "                {label}: {text}");
                }
            }
            let _ = out.flush();
        }
        self.findings.push(finding);
    }

    /// How many findings have this level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// Prints the end: the sum, or the JSON document.
    ///
    /// # Errors
    /// If the findings cannot be written as JSON.
    pub fn finish(&self) -> Result<(), serde_json::Error> {
        let (ok, warn, fail) = (self.count(Level::Ok), self.count(Level::Warn), self.count(Level::Fail));
        let text = if self.json {
            let document =
                Document { version: env!("CARGO_PKG_VERSION"), ok, warn, fail, findings: &self.findings };
            serde_json::to_string_pretty(&document)?
        } else {
            format!("{ok} ok, {warn} to look at, {fail} failed")
        };
        let _ = writeln!(std::io::stdout(), "{text}");
        Ok(())
    }
}
