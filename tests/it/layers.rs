//! Checks the layers of `src`: each layer imports only from lower layers. `docs/architecture.md` describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The layers from bottom to top. Modules of one layer do not import each other.
const LAYERS: [&[&str]; 17] = [
    &["base"],
    &["model"],
    &["cluster", "route"],
    &["auth", "event", "dialect"],
    &["backup", "eta", "keeping", "load", "order", "outbox", "recovery"],
    &["webhook"],
    &["notify"],
    &["driver"],
    &["replay", "tracking"],
    &["app"],
    &["demo", "describe", "session"],
    &["transport"],
    &["server"],
    &["cli"],
    &["doctor"],
    &["commands"],
    &["main", "lib"],
];

/// Words that may occur in some folders only, with the reason.
const RESTRICTED_WORDS: [(&str, &[&str], &str); 8] = [
    ("socketioxide", &["transport/socketio/"], "one folder knows the Socket.IO library"),
    ("StatusCode", &["transport/"], "only the transport turns a refusal into an HTTP status"),
    ("axum", &["transport/"], "the web framework stays in the transport"),
    ("Instant::now", &["base/clock.rs"], "only `Clock` reads the time"),
    ("Utc::now", &["base/clock.rs"], "only `Clock` reads the time"),
    ("SystemTime", &["base/clock.rs"], "only `Clock` reads the time"),
    ("rand::", &["base/clock.rs"], "only `Clock` makes random values"),
    ("downcast", &["base/", "transport/"], "an error is classified where it is made"),
];

/// Words that must not occur in pure folders, which do no I/O.
const IMPURE_WORDS: [&str; 6] = ["async", "await", "tokio", "sea_orm", "std::fs", "std::net"];
const PURE_FOLDERS: [&str; 2] = ["model/", "dialect/"];

/// Connections know neither sessions nor protocols. Of the session they know how urgent a message is, and what became of it.
const CONNECTIONS: &str = "transport/conn/";

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The source files in `src` by relative path, without comments and unit tests.
pub fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, root: &Path, all: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, root, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("below the root").display().to_string();
                all.insert(name, code(&std::fs::read_to_string(&path).expect("a source")));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = BTreeMap::new();
    walk(&root, &root, &mut all);
    all
}

/// Removes comments and unit tests. Unit tests may import anything.
fn code(source: &str) -> String {
    let end = source.find("#[cfg(test)]\nmod tests {").unwrap_or(source.len());
    let lines = source[..end].lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// The top-level module of a file.
fn module(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

/// The top-level modules that a source names with `crate::…`, alone or in a group.
fn named_modules(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut all = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let parts = group.split_inclusive(['{', '}', ',']).take_while(|part| {
                depth += part.matches('{').count();
                let inside = depth > 0 || !part.contains('}');
                depth = depth.saturating_sub(part.matches('}').count());
                inside
            });
            all.extend(parts.map(|part| word(part.trim())).filter(|name| layer(name).is_some()));
        } else {
            all.insert(word(rest));
        }
    }
    all
}

/// The imports of a file that are not from a lower layer.
fn wrong_imports(path: &str, code: &str) -> Vec<String> {
    let own = module(path);
    let Some(here) = layer(own) else { return vec![format!("{path}: in no layer")] };
    named_modules(code)
        .into_iter()
        .filter(|name| name != own && layer(name).is_some_and(|there| there >= here))
        .map(|name| format!("{path} imports {name}"))
        .collect()
}

fn wrong_words(path: &str, code: &str) -> Vec<String> {
    let restricted = RESTRICTED_WORDS
        .iter()
        .filter(|(word, folders, _)| {
            code.contains(word) && !folders.iter().any(|folder| path.starts_with(folder))
        })
        .map(|(word, _, why)| format!("{path} says {word}: {why}"));
    let impure = IMPURE_WORDS
        .iter()
        .filter(|word| PURE_FOLDERS.iter().any(|folder| path.starts_with(folder)) && has_word(code, word))
        .map(|word| format!("{path} says {word}: it is pure"));
    let connections = path.starts_with(CONNECTIONS).then(|| code.replace("crate::session::wire", ""));
    let strangers = ["crate::session", "socketio", "crate::dialect"]
        .iter()
        .filter(move |word| connections.as_ref().is_some_and(|code| code.contains(**word)))
        .map(|word| format!("{path} says {word}: connections know no session and no protocol"));
    restricted.chain(impure).chain(strangers).collect()
}

fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

#[test]
fn every_file_imports_only_what_stands_below_it() {
    let wrong: Vec<_> = sources()
        .iter()
        .flat_map(|(path, code)| wrong_imports(path, code).into_iter().chain(wrong_words(path, code)))
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_test_sees_a_wrong_import() {
    let upwards = "use crate::session::Sessions;\n";
    assert_eq!(wrong_imports("order/read.rs", upwards), ["order/read.rs imports session"]);
    let grouped = "use crate::{base::db::Db, transport::{conn, http}};";
    assert_eq!(wrong_imports("driver/live.rs", grouped), ["driver/live.rs imports transport"]);
    let sideways = "fn f() { crate::recovery::pid::Pid::default() }";
    assert_eq!(wrong_imports("order/read.rs", sideways), ["order/read.rs imports recovery"]);
    assert!(wrong_imports("session/hub.rs", "use crate::model::Role; use crate::session::wire;").is_empty());
    assert_eq!(wrong_words("model/order.rs", "pub async fn load() {}").len(), 1);
    assert_eq!(wrong_words("order/read.rs", "Instant::now()").len(), 1);
    assert_eq!(wrong_words("transport/conn/out.rs", "use crate::session::session::Session;").len(), 1);
    assert!(wrong_words("transport/conn/out.rs", "use crate::session::wire::Handed;").is_empty());
    assert!(wrong_words("model/order.rs", "let asynchronous = 1;").is_empty());
    assert_eq!(code("use a; // crate::server\n#[cfg(test)]\nmod tests {\nuse crate::server;"), "use a; ");
}
