//! Tokens: who may do what over TCP, how fast, and that nobody learns a secret who was not shown it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::daemon::{Answer, Daemon, eventually, items};
use crate::harness::http::{Reply, ask, call_with};

/// A daemon that listens on TCP.
struct Served {
    daemon: Daemon,
    address: SocketAddr,
}

impl Served {
    fn start() -> Self {
        Self::start_with("", "")
    }

    /// With more lines under `[api]` in the settings, and more behind.
    fn start_with(api: &str, more: &str) -> Self {
        // It is free a moment later as well, unless somebody else on this machine takes just that one.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let daemon = Daemon::start(|home| {
            home.settings(&format!("[api]\nlisten = \"{free}\"\n{api}\n{more}"));
        });
        Self { daemon, address: free }
    }

    fn token(&self, arguments: &[&str]) -> Answer {
        self.daemon.cli([&["token"], arguments].concat())
    }

    /// Makes a token and gives its secret.
    fn create(&self, name: &str, role: &str, more: &[&str]) -> String {
        let arguments = [&["create", name, "--role", role], more].concat();
        self.token(&arguments).exits(0).stdout.trim_end().to_owned()
    }

    fn with_head(&self, asked: (&str, &str), head: &str, body: Option<&Value>) -> Reply {
        let head = format!("Host: {}\r\n{head}", self.address);
        ask(self.address, asked, &head, body).expect("an answer")
    }

    fn with(&self, secret: &str, asked: (&str, &str), body: Option<&Value>) -> Reply {
        self.with_head(asked, &bearer(secret), body)
    }

    fn submit(&self, secret: &str, count: usize) -> Reply {
        let job = json!({ "kind": "command", "params": { "argv": ["true"] } });
        self.with(secret, ("POST", "/api/v1/jobs"), Some(&json!(vec![job; count])))
    }

    fn jobs(&self) -> usize {
        let jobs = self.daemon.cli(["jobs", "--json", "--limit", "1000"]).exits(0).json();
        items(&jobs).len()
    }
}

fn bearer(secret: &str) -> String {
    format!("Authorization: Bearer {secret}\r\n")
}

const STATUS: (&str, &str) = ("GET", "/api/v1/status");

/// The role that a route needs is the least one that is not turned away.
#[test]
fn each_route_lets_in_who_has_its_role_and_nobody_else() {
    let served = Served::start();
    let roles = ["read", "submit", "operate"];
    let secrets = roles.map(|role| served.create(role, role, &[]));
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(text).unwrap()).unwrap();
    let mut table = String::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let place = path.replace("{id}", "999999").replace("{name}", "x").replace("{node}", "x");
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let body = (method != "GET").then(|| json!({}));
            let asked = (method.as_str(), place.as_str());
            let nobody = served.with_head(asked, "", body.as_ref()).status;
            let is_in = |secret: &String| {
                let status = served.with(secret, asked, body.as_ref()).status;
                assert_ne!(status, 401, "{method} {path}");
                status != 403
            };
            let let_in = secrets.each_ref().map(is_in);
            let first = let_in.iter().position(|is_in| *is_in).expect("operate may do everything");
            assert!(let_in[first..].iter().all(|is_in| *is_in), "{method} {path}: {let_in:?}");
            let least = if nobody == 401 { roles[first] } else { "everybody" };
            writeln!(table, "{method:5} {path:40} {least}").unwrap();
        }
    }
    insta::assert_snapshot!(table);
    let ready = served.with_head(("GET", "/readyz"), "", None).json();
    assert_eq!(ready, json!({ "ready": true, "problems": null }), "strangers learn nothing else");
    assert_eq!(served.with_head(("GET", "/nowhere"), "", None).status, 401);
    assert_eq!(served.with(&secrets[0], ("GET", "/nowhere"), None).status, 404);
}

#[test]
fn j3_whatever_is_not_a_valid_token_gets_the_same_answer() {
    let served = Served::start();
    let revoked = served.create("old", "operate", &[]);
    served.token(&["revoke", "old"]).exits(0);
    let good = served.create("ci", "read", &[]);
    let mut answers: Vec<Reply> = Vec::new();
    for head in [
        "Authorization: \r\n".to_owned(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Basic Y2k6Y2k=\r\n".to_owned(),
        format!("Authorization: {good}\r\n"),
        bearer("wrong"),
        bearer(&good[..good.len() - 1]),
        bearer(&format!("{good}0")),
        bearer(&good.to_uppercase()),
        format!("{}{}", bearer(&good), bearer(&good)),
        bearer(&revoked),
        bearer("\u{e4}\u{f6}"),
        bearer("' OR 1=1 --"),
    ] {
        let reply = served.with_head(STATUS, &head, None);
        assert_eq!(reply.status, 401, "{head}: {reply:?}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"sexton\""));
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        assert_eq!(reply.json()["type"], "unauthorized");
        answers.push(reply);
    }
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    let none = served.with_head(STATUS, "", None);
    assert_eq!((none.status, none.header("www-authenticate").is_some()), (401, true));
    let huge = served.with_head(STATUS, &bearer(&"a".repeat(1 << 20)), None);
    assert_eq!(huge.status, 431, "{huge:?}");
    assert_eq!(served.with(&good, STATUS, None).status, 200);
}

#[test]
fn j3_a_source_of_wrong_tokens_has_to_wait() {
    let served = Served::start();
    let good = served.create("ci", "read", &[]);
    assert_eq!(served.with(&good, STATUS, None).status, 200);
    let refused = eventually("it is too much", || {
        let reply = served.with("wrong", STATUS, None);
        assert!([401, 429].contains(&reply.status), "{reply:?}");
        (reply.status == 429).then_some(reply)
    });
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
    assert_eq!(refused.json()["retry_after"], wait);
    // One that was valid is not shut out, and what needs none is answered.
    assert_eq!(served.with(&good, STATUS, None).status, 200);
    assert_eq!(served.with_head(("GET", "/healthz"), "", None).status, 200);
    assert_eq!(served.daemon.cli(["status"]).code, 0);
}

#[test]
fn j3_a_token_counts_until_its_end_and_not_after_it() {
    let served = Served::start();
    let secret = served.create("brief", "read", &["--expires", "1d"]);
    assert_eq!(served.with(&secret, STATUS, None).status, 200);
    served.token(&["set", "brief", "--expires", "300ms"]).exits(0);
    eventually("it expires", || (served.with(&secret, STATUS, None).status == 401).then_some(()));
    let list = served.token(&["list", "--json"]).exits(0).json();
    assert_eq!(items(&list)[0]["state"], "expired");
    served.token(&["set", "brief", "--unset", "expires"]).exits(0);
    assert_eq!(served.with(&secret, STATUS, None).status, 200);
    served.token(&["revoke", "brief"]).exits(0);
    assert_eq!(served.with(&secret, STATUS, None).status, 401);
    let refused = served.token(&["set", "brief", "--expires", "1d"]).exits(1);
    assert!(refused.stderr.contains("is revoked, and stays so"), "{refused:?}");
}

/// Every file under a folder, read whole.
fn files(folder: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else if path.is_file() {
            // One that is gone again has nothing to hide.
            let bytes = std::fs::read(&path).unwrap_or_default();
            all.insert(path.display().to_string(), bytes);
        }
    }
}

#[test]
fn j4_j11_a_secret_is_refused_in_an_address_and_is_in_no_log_no_column_and_no_audit_line() {
    let mut served = Served::start_with("", "[log]\nlevel = \"trace\"");
    let secret = served.create("ci", "operate", &["--rate", "1/s burst 100"]);
    for path in [
        format!("/api/v1/jobs?access_token={secret}"),
        format!("/api/v1/jobs?token={secret}"),
        format!("/api/v1/jobs?kind={secret}"),
        format!("/api/v1/jobs/{secret}"),
        format!("/healthz?{secret}"),
    ] {
        let refused = served.with_head(("GET", &path), "", None);
        assert_eq!(refused.status, 400, "{path}: {refused:?}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("revoke it"), "{refused:?}");
        assert!(!refused.body.contains(&secret));
    }
    assert_eq!(served.submit(&secret, 1).status, 202);
    assert_eq!(served.with(&secret[..70], STATUS, None).status, 401);
    served.token(&["set", "ci", "--rate", "2/s"]).exits(0);
    served.token(&["revoke", "ci"]).exits(0);
    let list = served.token(&["list", "--json"]).exits(0);
    let audit = eventually("the audit log has all of it", || {
        let told = served.daemon.cli(["audit", "--json"]).exits(0).stdout;
        ["token.created", "token.changed", "token.revoked", "token:ci"]
            .iter()
            .all(|part| told.contains(part))
            .then_some(told)
    });
    served.daemon.terminate();
    let mut all = BTreeMap::new();
    files(&served.daemon.path(""), &mut all);
    assert!(all.keys().any(|name| name.ends_with("sexton.db")), "{:?}", all.keys());
    assert!(all.keys().any(|name| name.ends_with("audit.jsonl")), "{:?}", all.keys());
    all.insert("the list".to_owned(), list.stdout.into_bytes());
    all.insert("the audit log".to_owned(), audit.into_bytes());
    // A part is enough to give it away.
    let part = &secret.as_bytes()[7..39];
    let mut seen = 0;
    for (name, bytes) in &all {
        assert!(!bytes.windows(part.len()).any(|window| window == part), "it is in {name}");
        seen += bytes.len();
    }
    assert!(seen > 100_000, "{seen} bytes are not all that was written");
}

#[test]
fn a_tokens_rate_holds_back_what_is_handed_in_and_outlives_the_daemon() {
    let mut served = Served::start();
    let secret = served.create("ci", "submit", &["--rate", "1/h burst 3"]);
    let other = served.create("other", "submit", &[]);
    let too_many = served.submit(&secret, 4);
    assert_eq!(too_many.status, 422, "{too_many:?}");
    let detail = too_many.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("4 jobs") && detail.contains("may hand in 3 at once"), "{detail}");
    assert_eq!(served.submit(&secret, 2).status, 202);
    let refused = served.submit(&secret, 2);
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    assert_eq!(served.submit(&other, 5).status, 202, "nobody else is held back");
    assert_eq!(served.with(&secret, STATUS, None).status, 200, "looking is free");
    assert_eq!(served.submit(&secret, 1).status, 202, "the refused ones took nothing");
    let batch = json!({ "kind": "command", "params": { "argv": ["true"] }, "items": ["a", "b"] });
    let batch = served.with(&secret, ("POST", "/api/v1/jobs"), Some(&batch));
    assert_eq!(batch.status, 429, "{batch:?}");
    assert_eq!(served.jobs(), 8);

    served.daemon.kill();
    served.daemon.start_again();
    assert_eq!(served.submit(&secret, 1).status, 429, "as before");
    served.token(&["set", "ci", "--rate", "100/s burst 50"]).exits(0);
    eventually("the raised rate counts", || {
        (served.submit(&secret, 1).status == 202).then_some(())
    });
    served.token(&["set", "ci", "--unset", "rate"]).exits(0);
    assert_eq!(served.submit(&secret, 500).status, 202);
}

#[test]
fn each_other_change_takes_one_of_a_tokens_rate() {
    let served = Served::start();
    let secret = served.create("ops", "operate", &["--rate", "1/h burst 2"]);
    let pause = || served.with(&secret, ("POST", "/api/v1/queues/mail/pause"), Some(&json!({})));
    let resume = || served.with(&secret, ("POST", "/api/v1/queues/mail/resume"), None);
    assert_eq!((pause().status, resume().status), (200, 200));
    let refused = pause();
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (429, true));
    let list = served.daemon.cli(["queues", "--json"]).exits(0).json();
    let mail = items(&list).iter().find(|queue| queue["name"] == "mail");
    assert!(mail.is_none_or(|queue| queue["pause"].is_null()), "{mail:?}");
}

#[test]
fn what_a_token_did_is_told_under_its_name() {
    let served = Served::start();
    let secret = served.create("ci", "submit", &[]);
    let job = json!({ "kind": "command", "params": { "argv": ["true"] } });
    let job = served.with(&secret, ("POST", "/api/v1/jobs"), Some(&job));
    assert_eq!(job.json()["actor"], "token:ci", "{job:?}");
    let list = served.token(&["list", "--json"]).exits(0).json();
    let token = &items(&list)[0];
    assert!(token["last_used_at"].is_string() && token["revoked_at"].is_null(), "{token:#}");
    assert!(token["created_by"].as_str().unwrap().starts_with("local:"), "{token:#}");
    eventually("it is in the audit log", || {
        let told = served.daemon.cli(["audit", "--json", "--who", "token:ci"]).exits(0).json();
        (!items(&told).is_empty()).then_some(())
    });
    // On the socket a token narrows what may be done.
    let socket = served.daemon.path("data/sexton.sock");
    let asked = ("POST", "/api/v1/queues/mail/pause");
    let patience = Duration::from_secs(30);
    let body = json!({});
    let narrowed = call_with(&socket, patience, asked, &bearer(&secret), Some(&body)).unwrap();
    assert_eq!(narrowed.0, 403, "{narrowed:?}");
    let wrong = call_with(&socket, patience, asked, &bearer("wrong"), Some(&body)).unwrap();
    assert_eq!(wrong.0, 401, "{wrong:?}");
    assert_eq!(call_with(&socket, patience, asked, "", Some(&body)).unwrap().0, 200);
}

#[test]
fn j6_pages_of_other_sites_and_names_that_were_bound_to_this_machine_are_refused() {
    let served = Served::start_with("anonymous = \"read\"", "");
    let secret = served.create("ops", "operate", &[]);
    let foreign = format!("{}Origin: https://evil.example\r\n", bearer(&secret));
    let cross = format!("{}Sec-Fetch-Site: cross-site\r\n", bearer(&secret));
    let reload = ("POST", "/api/v1/reload");
    for head in [&foreign, &cross] {
        assert_eq!(served.with_head(reload, head, None).status, 403, "{head}");
    }
    assert_eq!(served.with(&secret, reload, None).status, 200);

    assert_eq!(served.with_head(STATUS, "", None).status, 200);
    assert_eq!(served.with_head(reload, "", None).status, 401);
    assert_eq!(served.with_head(("GET", "/api/v1/tokens"), "", None).status, 401);
    let named = |host: &str, head: &str| {
        ask(served.address, STATUS, &format!("Host: {host}\r\n{head}"), None).unwrap().status
    };
    assert_eq!(named("localhost", ""), 200);
    assert_eq!(named("evil.example:7373", ""), 403);
    assert_eq!(named("evil.example:7373", &bearer(&secret)), 200);
}

#[test]
fn a_token_that_cannot_be_meant_is_refused_with_a_reason() {
    let mut served = Served::start();
    served.create("ci", "read", &[]);
    for (arguments, code, why) in [
        (&["create", "CI", "--role", "read"][..], 2, "1 to 64 of a-z"),
        (&["create", "ci", "--role", "read"], 1, "there is or was a token `ci`"),
        (&["create", "b", "--role", "admin"], 2, "read, submit or operate"),
        (&["create", "b"], 2, "--role"),
        (&["create", "b", "--role", "read", "--rate", "often"], 2, "it has no `/`"),
        (&["create", "b", "--role", "read", "--expires", "soon"], 2, "is not a time"),
        (&["create", "b", "--role", "read", "--expires", "2020-01-01T00:00:00Z"], 2, "in the past"),
        (&["set", "ci"], 2, "--role"),
        (&["set", "ci", "--rate", "1/s", "--unset", "rate"], 2, "contradict"),
        (&["set", "nobody", "--role", "read"], 4, "there is no token `nobody`"),
        (&["set", "../etc", "--role", "read"], 4, "there is no token"),
        (&["revoke", "nobody"], 4, "there is no token `nobody`"),
    ] {
        let refused = served.token(arguments).exits(code);
        assert!(refused.stderr.contains(why), "{arguments:?}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{arguments:?}");
    }
    for (body, place) in [
        (json!({ "name": "b", "role": "admin" }), "/role"),
        (json!({ "name": "b", "role": "read", "rate": "0/m" }), "/rate"),
        (json!({ "name": "b", "role": "read", "secret": "mine" }), "/secret"),
        (json!({ "name": "b", "role": "read", "expires_at": "never" }), "/expires_at"),
    ] {
        let problem = served.daemon.post("/api/v1/tokens", &body);
        assert_eq!(problem["errors"][0]["pointer"], place, "{body}: {problem}");
    }
    let list = served.token(&["list", "--json"]).exits(0).json();
    assert_eq!(items(&list).len(), 1, "{list:#}");

    served.daemon.terminate();
    assert!(served.token(&[]).exits(0).stdout.contains("ci"), "reading works without the daemon");
    served.token(&["create", "late", "--role", "read"]).exits(5);
}
