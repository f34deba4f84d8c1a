//! Who takes part in a run, with their tokens: signed with the server's secret, or read from a file.

use std::path::Path;
use std::time::Duration;

use super::Options;
use crate::auth::{Claims, mint, without_scheme};
use crate::base::clock::Clock;
use crate::base::config::check_secret;
use crate::model::{Role, TokenId, UserId};

/// How much longer than the run a token is good.
const SPARE: Duration = Duration::from_secs(3_600);

/// A user with a token.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub id: UserId,
    pub token: String,
}

/// Who takes part.
#[derive(Debug)]
pub(super) struct People {
    pub service: Person,
    /// One for each driver.
    pub drivers: Vec<Person>,
    /// Never empty. Orders have them in turn.
    pub customers: Vec<Person>,
    /// Cooks everything. Nobody connects as this one.
    pub chef: UserId,
}

impl People {
    /// # Errors
    /// One line for who started the run. It never repeats a token.
    pub fn gather(options: &Options, run: &str, clock: &Clock) -> Result<Self, String> {
        match (&options.tokens, &options.jwt_secret) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| format!("--tokens: {} cannot be read: {error}", file.display()))?;
                Self::read(&text, options, run, clock).map_err(|rule| Self::named(file, &rule))
            }
            (None, Some(secret)) => {
                check_secret(secret)?;
                Self::sign(secret, options, run, clock)
            }
            (None, None) => Err("set JWT_SECRET to the server's secret, or give --tokens".to_owned()),
        }
    }

    fn named(file: &Path, rule: &str) -> String {
        format!("--tokens: {}: {rule}", file.display())
    }

    fn sign(secret: &str, options: &Options, run: &str, clock: &Clock) -> Result<Self, String> {
        let person = |id: String, role: Role| {
            let ttl = options.duration.saturating_add(SPARE);
            let token = mint(secret, &id, role, None, clock.now(), ttl);
            token.map(|token| Person { id: UserId::stored(&id), token }).map_err(|error| error.to_string())
        };
        let drivers =
            (0..options.drivers).map(|index| person(format!("load-{run}-driver-{index}"), Role::Driver));
        let customers =
            (0..options.orders).map(|index| person(format!("load-{run}-customer-{index}"), Role::Customer));
        Ok(Self {
            service: person(format!("load-{run}-service"), Role::Service)?,
            drivers: drivers.collect::<Result<_, _>>()?,
            customers: customers.collect::<Result<_, _>>()?,
            chef: UserId::stored(&format!("load-{run}-chef")),
        })
    }

    fn read(text: &str, options: &Options, run: &str, clock: &Clock) -> Result<Self, String> {
        let (mut service, mut drivers, mut customers) = (None, Vec::new(), Vec::new());
        for (line, token) in (1..).zip(text.lines().map(without_scheme)) {
            if token.is_empty() || token.starts_with('#') {
                continue;
            }
            // Its signature is the server's business.
            let claims = jsonwebtoken::dangerous::insecure_decode::<Claims>(token)
                .map_err(|_| format!("line {line} is no token"))?
                .claims;
            let who = claims.principal(TokenId::default(), clock.now());
            let who = who.map_err(|refusal| format!("line {line}: {refusal}"))?;
            let person = Person { id: who.id, token: token.to_owned() };
            match who.role {
                Role::Service | Role::Admin => service = service.or(Some(person)),
                Role::Driver => drivers.push(person),
                Role::Customer => customers.push(person),
                Role::Chef | Role::Anonymous => {}
            }
        }
        let wanted = options.drivers as usize;
        if drivers.len() < wanted {
            return Err(format!(
                "--drivers {wanted} needs as many tokens of drivers, and there are {}",
                drivers.len()
            ));
        }
        drivers.truncate(wanted);
        if customers.is_empty() {
            return Err("there is no token of a customer".to_owned());
        }
        let service = service.ok_or("there is no token of a service or an admin")?;
        Ok(Self { service, drivers, customers, chef: UserId::stored(&format!("load-{run}-chef")) })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn tokens_of_a_file_are_told_apart_by_their_roles() {
        let clock = Clock::manual(crate::base::clock::from_millis(1_000_000));
        let token = |id: &str, role| {
            mint("secret", id, role, None, clock.now(), Duration::from_secs(60)).expect("a token")
        };
        let options = Flags::parse_from(["load", "--drivers", "1"]).options;
        let read = |lines: &[&str]| People::read(&lines.join("\n"), &options, "r", &clock);
        let (service, driver, customer) =
            (token("s", Role::Service), token("d", Role::Driver), token("c", Role::Customer));
        let people =
            read(&["# ours", "", &service, &driver, &token("d2", Role::Driver), &customer]).expect("people");
        assert_eq!((people.service.id.as_str(), people.drivers.len(), people.customers.len()), ("s", 1, 1));
        let expired = mint("secret", "s", Role::Service, None, clock.now(), Duration::ZERO).expect("a token");
        for (lines, rule) in [
            (&[&*service, &customer][..], "--drivers 1"),
            (&[&service, &driver], "customer"),
            (&[&driver, &customer], "service"),
            (&[&service, "hello"], "line 2"),
            (&[&expired], "line 1"),
        ] {
            let error = read(lines).expect_err(rule);
            assert!(error.contains(rule) && !error.contains("hello"), "{error}");
        }
    }
}
