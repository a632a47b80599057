//! What may be shown of a PostgreSQL URL, and of what libpq says about it.
//!
//! Of a URL that it cannot read libpq repeats what it takes for the part at fault, in quotes, and that can be the password or all of the
//! URL. Where it reads a password as something else, nobody can tell which part is meant to be secret. So of what it says about URLs, only
//! the words before the first quote are passed on; what it says of servers that it has tried to reach is passed on as it is.

use diesel::ConnectionError;

/// How messages about a server begin.
const OF_A_SERVER: [&str; 6] =
    ["connection to server", "could not", "server ", "FATAL", "SSL", "timeout"];

/// What libpq says about a connection that cannot be made, without anything of a URL that it cannot read.
pub(super) fn untold(error: ConnectionError) -> ConnectionError {
    let ConnectionError::BadConnection(said) = &error else { return error };
    if OF_A_SERVER.iter().any(|beginning| said.starts_with(beginning)) {
        return error;
    }
    let words = said.split('"').next().unwrap_or_default().trim();
    ConnectionError::BadConnection(format!(
        "{words} …: this is not a URL that PostgreSQL's library can read, and the part that it names is not shown, because it may be the \
         password. A space is %20, an address of IPv6 stands in [ ], a port is a number"
    ))
}

/// Hosts, ports and database of a URL: what stands before is user and password, and what follows are options, of which one can be a
/// password. What stands in the place of a port and is none may be the beginning of a password after which the @ is missing, and what follows
/// it the rest.
pub(super) fn shown(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let rest = rest.split('?').next().unwrap_or(rest);
    let (hosts, database) =
        rest.split_once('/').map_or((rest, None), |(hosts, database)| (hosts, Some(database)));
    let mut shown: Vec<String> = hosts.split(',').map(shown_host).collect();
    if let Some(doubtful) = shown.iter().position(|host| host.ends_with(UNSHOWN)) {
        shown.truncate(doubtful + 1);
        return format!("postgres://{}", shown.join(","));
    }
    let database = database.map(|database| format!("/{database}")).unwrap_or_default();
    format!("postgres://{}{database}", shown.join(","))
}

/// Stands for what is not shown.
const UNSHOWN: char = '…';

fn shown_host(host: &str) -> String {
    let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, port)) => (format!("[{address}]"), port.strip_prefix(':').or(Some(port))),
        None => match host.split_once(':') {
            Some((name, port)) => (name.to_owned(), Some(port)),
            None => (host.to_owned(), None),
        },
    };
    match port {
        None | Some("") => name,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("{name}:{port}"),
        Some(_) => format!("{name}:{UNSHOWN}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Chain;
    use crate::store::{DatabaseUrl, Purpose};

    /// Everything that anybody is shown when this is given as the database: libpq is asked, and no server is.
    fn shown_of(url: &str) -> String {
        match url.parse::<DatabaseUrl>() {
            Err(error) => Chain(&error).to_string(),
            Ok(url) => {
                let error = url.connect(Purpose::Read).err().expect("nobody listens there");
                format!("{url} {url:?} {}", Chain(&error))
            }
        }
    }

    #[test]
    fn hosts_and_database_are_shown() {
        for (url, said) in [
            (
                "postgres://me:s3cret@db.example:5432/sexton?sslmode=require",
                "db.example:5432/sexton",
            ),
            ("postgresql://me@a:1,b:2/x", "a:1,b:2/x"),
            ("postgres://me:s3cret@[::1]:5432/x", "[::1]:5432/x"),
            ("postgres:///x?host=/tmp", "/x"),
            ("postgres://%2Ftmp/x", "%2Ftmp/x"),
            ("postgres://me:s3cret/x", "me:…"),
            ("postgres://me:s3c/ret,[::1]:5432/x", "me:…"),
        ] {
            assert_eq!(shown(url), format!("postgres://{said}"), "{url}");
        }
    }

    #[test]
    fn what_a_server_says_is_passed_on() {
        let said = shown_of("postgres://me:s3cret@localhost:1/x?host=/nowhere");
        assert!(said.contains("/nowhere/.s.PGSQL.1"), "{said}");
    }

    #[test]
    fn a_url_that_libpq_cannot_read_is_refused_with_its_words_and_nothing_of_it() {
        for (url, words) in [
            ("postgres://u:geheim@[::1/nul", "end of string reached when looking for matching"),
            ("postgres://u:geheim pw@localhost:1/nul", "unexpected spaces found in"),
            ("postgres://u@localhost:1/nul?password=geheim pw", "unexpected spaces found in"),
            ("postgres://u@localhost:1/nul?password=geheim%zz", "invalid percent-encoded token"),
            ("postgres://u@localhost:1/nul?password=geheim=", "extra key/value separator"),
            ("postgres://u@localhost:1/nul?password:geheim", "missing key/value separator"),
            ("postgres://u@localhost:1/nul?geheim=password", "invalid URI query parameter"),
            ("postgres://u:geheim/nul", "invalid integer value"),
            ("postgres://u:geheim[::1]/nul", "invalid integer value"),
            ("postgres://u:ge?heim@localhost:1/nul", "has / as %2F"),
            ("postgres:/u:geheim/nul", "use sqlite:PATH"),
            ("mysql://u:geheim/nul", "use sqlite:PATH"),
            ("u:geheim@localhost/nul", "use sqlite:PATH"),
        ] {
            let said = shown_of(url);
            assert!(said.contains(words), "{url}: {said}");
            assert!(!said.contains("heim"), "{url}: {said}");
        }
    }

    proptest! {
        #[test]
        fn a_password_is_shown_for_no_slip_of_the_pen(
            cut in 0_usize..24,
            length in 0_usize..3,
            put in "[ -/:@?=&%\\[\\]\"',x]{0,2}",
            inside in proptest::bool::ANY,
        ) {
            let password = if inside { format!("geheim{put}pst") } else { "geheimpst".to_owned() };
            let before = "postgres://u:";
            let after = "@[::1]:1/nul";
            let mut url = format!("{before}{password}{after}");
            // Somewhere around the password, something is missing, or something is there instead.
            let places: Vec<usize> = (7..before.len()).chain(before.len() + password.len()..url.len()).collect();
            let at = places[cut % places.len()];
            let end = (at + length).min(if at < before.len() { before.len() } else { url.len() });
            url.replace_range(at..end, &put);
            // Whatever is read of it, no server is there.
            let said = shown_of(&format!("{url}?host=/nowhere"));
            prop_assert!(!said.contains("heim") && !said.contains("pst"), "{url}: {said}");
        }
    }
}
