//! Following redirects, hop by hop.

use reqwest::header::{self, HeaderMap};
use reqwest::{Method, StatusCode, Url};

use super::{AddressPolicy, HttpClient, HttpError, Request, Response, masked};

/// Sends a request and follows up to `follow` redirects. With `follow` 0 a redirect is an answer like any other.
///
/// Every hop is held to the address policy anew. What is sensitive stays with its origin: such header fields are
/// dropped when host, port or scheme change. A redirect from https to http is refused.
///
/// # Errors
/// When a hop is refused or fails.
pub async fn fetch(
    client: &dyn HttpClient,
    mut request: Request,
    policy: &AddressPolicy,
    follow: u32,
) -> Result<Response, HttpError> {
    let mut left = follow;
    loop {
        request.reach = policy.reach(&request.url);
        let response = client.send(request.clone()).await?;
        let Some(target) = target(&response, &request).filter(|_| follow > 0) else {
            return Ok(response);
        };
        if left == 0 {
            return Err(refused(&request.url, &format!("it redirects more than {follow} times")));
        }
        left -= 1;
        request = next_hop(request, response.status, target?)?;
    }
}

fn refused(url: &Url, reason: &str) -> HttpError {
    HttpError::Refused { url: masked(url), reason: reason.to_owned() }
}

/// Where a response sends the client, if it does.
fn target(response: &Response, request: &Request) -> Option<Result<Url, HttpError>> {
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !redirects.contains(&response.status) {
        return None;
    }
    let location = response.header(&header::LOCATION)?;
    let joined = request.url.join(location);
    Some(joined.map_err(|_not_a_url| refused(&request.url, "it redirects to what is not a URL")))
}

/// The request of the next hop (RFC 9110 §15.4).
fn next_hop(mut request: Request, status: StatusCode, to: Url) -> Result<Request, HttpError> {
    if !["http", "https"].contains(&to.scheme()) {
        return Err(refused(&to, "a redirect leads away from the web"));
    }
    if request.url.scheme() == "https" && to.scheme() == "http" {
        return Err(refused(&to, "a redirect leads from https to http, which anybody can read"));
    }
    let becomes_get = match status {
        StatusCode::SEE_OTHER => request.method != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => request.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        request.method = Method::GET;
        request.body = None;
        request.headers.remove(header::CONTENT_TYPE);
    }
    if origin(&request.url) != origin(&to) {
        drop_sensitive(&mut request.headers);
    }
    request.url = to;
    Ok(request)
}

fn origin(url: &Url) -> (&str, Option<&str>, Option<u16>) {
    (url.scheme(), url.host_str(), url.port_or_known_default())
}

fn drop_sensitive(headers: &mut HeaderMap) {
    let always = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];
    let names: Vec<_> = headers
        .iter()
        .filter(|(name, value)| value.is_sensitive() || always.contains(name))
        .map(|(name, _value)| name.clone())
        .collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::time::Duration;

    use futures_util::future::BoxFuture;
    use futures_util::{FutureExt as _, StreamExt as _, stream};
    use reqwest::header::HeaderValue;

    use super::super::Reach;
    use super::*;

    /// Answers from a script and remembers what it was asked.
    #[derive(Default)]
    struct Scripted {
        answers: Mutex<VecDeque<(u16, &'static str)>>,
        asked: Mutex<Vec<Request>>,
    }

    impl Scripted {
        fn new(answers: &[(u16, &'static str)]) -> Self {
            Self { answers: Mutex::new(answers.iter().copied().collect()), ..Self::default() }
        }
    }

    impl HttpClient for Scripted {
        fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
            let (status, location) = self.answers.lock().unwrap().pop_front().unwrap();
            let mut headers = HeaderMap::new();
            if !location.is_empty() {
                headers.insert(header::LOCATION, HeaderValue::from_static(location));
            }
            let response = Response {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                url: request.url.clone(),
                body: stream::empty().boxed(),
            };
            self.asked.lock().unwrap().push(request);
            async move { Ok(response) }.boxed()
        }
    }

    fn request(method: Method, url: &str) -> Request {
        let mut headers = HeaderMap::new();
        let mut key = HeaderValue::from_static("canary");
        key.set_sensitive(true);
        headers.insert("x-key", key);
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer canary"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        Request {
            method,
            url: url.parse().unwrap(),
            headers,
            body: Some("body".into()),
            reach: Reach::Anywhere,
            idle_timeout: Duration::from_secs(1),
        }
    }

    async fn run(
        answers: &[(u16, &'static str)],
        method: Method,
        follow: u32,
    ) -> (Result<Response, HttpError>, Vec<Request>) {
        let client = Scripted::new(answers);
        let policy =
            AddressPolicy { allow_hosts: vec!["a.example".to_owned()], ..AddressPolicy::default() };
        let answer = fetch(&client, request(method, "https://a.example/1"), &policy, follow).await;
        (answer, client.asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn l2_every_hop_is_held_to_the_address_policy_anew() {
        let (_answer, asked) =
            run(&[(302, "https://b.example/2"), (200, "")], Method::GET, 5).await;
        let reach: Vec<_> = asked.iter().map(|request| request.reach).collect();
        assert_eq!(reach, [Reach::Anywhere, Reach::Public]);
    }

    #[tokio::test]
    async fn l2_secrets_stay_with_their_origin() {
        let script =
            [(302, "/2"), (302, "https://b.example/3"), (302, "https://a.example/4"), (200, "")];
        let (_answer, asked) = run(&script, Method::GET, 5).await;
        let with_key: Vec<_> =
            asked.iter().map(|request| request.headers.contains_key("x-key")).collect();
        assert_eq!(with_key, [true, true, false, false]);
        assert!(!asked[2].headers.contains_key(header::AUTHORIZATION));
        assert!(asked[2].headers.contains_key(header::ACCEPT));
        let (_answer, asked) =
            run(&[(302, "https://a.example:8443/"), (200, "")], Method::GET, 5).await;
        assert!(!asked[1].headers.contains_key("x-key"), "another port is another origin");
    }

    #[tokio::test]
    async fn l2_a_redirect_from_https_to_http_is_refused() {
        let (answer, asked) = run(&[(302, "http://a.example/2")], Method::GET, 5).await;
        assert!(matches!(answer, Err(HttpError::Refused { .. })));
        assert_eq!(asked.len(), 1);
    }

    #[tokio::test]
    async fn the_method_changes_as_the_standard_says() {
        for (status, method, expected, has_body) in [
            (301, Method::POST, Method::GET, false),
            (302, Method::POST, Method::GET, false),
            (302, Method::PUT, Method::PUT, true),
            (303, Method::PUT, Method::GET, false),
            (303, Method::HEAD, Method::HEAD, true),
            (307, Method::POST, Method::POST, true),
            (308, Method::POST, Method::POST, true),
        ] {
            let (_answer, asked) = run(&[(status, "/2"), (200, "")], method.clone(), 5).await;
            assert_eq!(asked[1].method, expected, "{status} {method}");
            assert_eq!(asked[1].body.is_some(), has_body, "{status} {method}");
        }
    }

    #[tokio::test]
    async fn redirects_end() {
        let (answer, asked) = run(&[(302, "/2"); 4], Method::GET, 3).await;
        assert!(answer.unwrap_err().to_string().contains("more than 3 times"));
        assert_eq!(asked.len(), 4);
        let (answer, asked) = run(&[(302, "/2")], Method::GET, 0).await;
        assert_eq!((answer.unwrap().status.as_u16(), asked.len()), (302, 1));
    }
}
