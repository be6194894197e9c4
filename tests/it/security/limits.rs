//! Limits by principal, and clients that are too slow.

use std::time::{Duration, Instant};

use esker_tests::{TOKEN, TestApp};
use futures::TryStreamExt;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{make_token, send_as, status_as};

const NAMESPACES: &str = "/v1/default/namespaces";

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the lines of `/metrics` about refusals that have a number.
async fn refusals(app: &TestApp) -> Vec<String> {
    let metrics = app.ok(Method::GET, "/metrics", None).await;
    let lines = metrics.as_str().expect("text").lines();
    lines.filter(|line| line.starts_with("esker_limit_refusals_total{") && !line.ends_with(" 0")).map(str::to_owned).collect()
}

/// Sends the bytes on a new connection to the REST port.
async fn connect(app: &TestApp, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.server.rest).await.expect("connected");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    stream
}

/// Reads until a text has arrived or the connection ends. Returns what was read.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    let done = async {
        let mut buffer = [0; 1000];
        while !String::from_utf8_lossy(&read).contains(text) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => read.extend_from_slice(&buffer[..n]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("the server answers or closes");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_beyond_its_rate_waits_and_nothing_is_begun() {
    let app = TestApp::start_with(|c| (c.limits.requests_per_second, c.limits.request_burst) = (1, 3)).await;
    // Another principal's requests are its own affair.
    let (_, other) = make_token(&app, "b").await;
    let (mut made, mut refused) = (Vec::new(), 0);
    for n in 0..200 {
        let name = format!("n{n}");
        let (status, headers, body) =
            app.send_as(&other, Method::POST, NAMESPACES, &[], Some(json!({"namespace": [name.as_str()]}))).await;
        match status.as_u16() {
            200 => made.push(name),
            429 => {
                assert!(headers.contains_key("retry-after") && body.contains("limits.requests_per_second"), "{body}");
                refused += 1;
            }
            status => panic!("{status}: {body}"),
        }
        if refused > 3 {
            break;
        }
    }
    assert!(refused > 3 && made.len() >= 3, "{made:?}");
    let began = Instant::now();
    let listed = loop {
        let (status, listed) = send_as(&app, TOKEN, Method::GET, NAMESPACES, &[], None).await;
        if status == 200 {
            break listed;
        }
        assert!(status == 429 && began.elapsed() < PATIENCE, "{status}");
    };
    assert_eq!(listed["namespaces"].as_array().map(Vec::len), Some(made.len()), "what was refused was not begun");
    for path in ["/metrics", "/metrics/tables", "/healthz"] {
        for _ in 0..5 {
            assert_eq!(send_as(&app, &other, Method::GET, path, &[], None).await.0, 200, "{path} is not limited");
        }
    }
    let refusals = refusals(&app).await;
    assert!(refusals.iter().any(|line| line.contains("limit=\"rate\"")), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_at_work_counts_until_it_ends() {
    let app = TestApp::start_with(|c| c.limits.concurrent_requests = 1).await;
    let (_, other) = make_token(&app, "b").await;
    let head = format!(
        "POST {NAMESPACES} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {other}\r\ncontent-length: 100\r\n\
         expect: 100-continue\r\n\r\n",
        app.server.rest
    );
    let mut at_work = connect(&app, &head).await;
    // The server asks for the body once the request is admitted.
    assert!(read_until(&mut at_work, "100 Continue").await.contains("100 Continue"));
    assert_eq!((status_as(&app, &other).await, status_as(&app, TOKEN).await), (429, 200), "of one principal alone");
    drop(at_work);
    let began = Instant::now();
    while status_as(&app, &other).await != 200 {
        assert!(began.elapsed() < PATIENCE, "the request still counts");
    }
    let refusals = refusals(&app).await;
    assert!(refusals.iter().any(|line| line.contains("limit=\"requests\"")), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_at_work_counts_until_its_rows_are_read_or_dropped() {
    let app = TestApp::start_with(|c| c.limits.concurrent_statements = 1).await;
    let (_, other) = make_token(&app, "b").await;
    let mut client = app.flight().await;
    // More rows than fit into what the client has not read yet.
    let many = "SELECT repeat('x', 200) AS s FROM generate_series(0, 2000000)";
    let info = client.execute(many.to_owned(), None).await.expect("planning is not running");
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let running = client.do_get(ticket).await.expect("it runs");
    let refused = app.sql("SELECT 1").await.expect_err("a second one");
    assert!(refused.contains("limits.concurrent_statements"), "{refused}");
    let refused = app.flight().await.execute("SELECT 1".to_owned(), None).await.expect_err("planning counts, too").to_string();
    assert!(refused.contains("limits.concurrent_statements"), "{refused}");
    let mut others = app.flight_as(&other).await;
    let info = others.execute("SELECT 1".to_owned(), None).await.expect("planned");
    let rows = others.do_get(info.endpoint[0].ticket.clone().expect("a ticket")).await.expect("another principal's");
    let rows: Vec<arrow::array::RecordBatch> = rows.try_collect().await.expect("rows");
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
    drop((running, client));
    let began = Instant::now();
    while app.sql("SELECT 1").await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the statement still counts");
    }
    let refusals = refusals(&app).await;
    assert!(refusals.iter().any(|line| line.contains("limit=\"statements\"")), "{refusals:?}");
}

/// Over HTTP/2, the connection of such a client goes on: it only asks for no more rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_client_reads_no_rows_ends() {
    let app = TestApp::start_with(|c| (c.limits.concurrent_statements, c.limits.body_seconds) = (1, 1)).await;
    let mut client = app.flight().await;
    let many = "SELECT repeat('x', 200) AS s FROM generate_series(0, 2000000)";
    let info = client.execute(many.to_owned(), None).await.expect("planned");
    let unread = client.do_get(info.endpoint[0].ticket.clone().expect("a ticket")).await.expect("it runs");
    let began = Instant::now();
    while app.sql("SELECT 1").await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the statement still counts");
    }
    let rows: Result<Vec<arrow::array::RecordBatch>, _> = unread.try_collect().await;
    assert!(rows.is_err(), "a part of the rows is no answer");
}

/// Returns a frame of HTTP/2. Spec: RFC 9113, section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The client has no room for a single byte of the answer. A stream that it never reads would stay open for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_http_2_that_nobody_reads_is_reset_and_its_connection_goes_on() {
    let app = TestApp::start_with(|c| c.limits.body_seconds = 1).await;
    let mut client = connect(&app, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let host = app.server.rest.to_string();
    // GET and http of the static table of HPACK, then the literals of its names `:path` and `:authority`.
    let mut request = b"\x82\x86\x04\x08/healthz\x01".to_vec();
    request.push(u8::try_from(host.len()).expect("a short host"));
    request.extend_from_slice(host.as_bytes());
    let (no_window, ends) = ([0_u8, 4, 0, 0, 0, 0], 0x5_u8);
    client.write_all(&frame(4, 0, 0, &no_window)).await.expect("sent");
    let mut seen = Vec::new();
    let reset = async |client: &mut TcpStream, seen: &mut Vec<u8>| {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.expect("the connection goes on");
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            client.read_exact(&mut payload).await.expect("the rest of a frame");
            seen.push(head[3]);
            if head[3] == 3 {
                return (head[8], payload);
            }
        }
    };
    for stream in [1_u8, 3] {
        client.write_all(&frame(1, ends, stream.into(), &request)).await.expect("sent");
        let (of, code) = tokio::time::timeout(PATIENCE, reset(&mut client, &mut seen)).await.expect("the stream is reset");
        assert_eq!((of, code), (stream, vec![0, 0, 0, 8]), "CANCEL");
    }
    assert!(seen.contains(&1) && !seen.contains(&0), "there were headers of an answer and no data: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_headers_or_a_body_too_slowly_is_cut_off_and_who_only_waits_is_not() {
    let app = TestApp::start_with(|c| (c.limits.header_seconds, c.limits.body_seconds) = (1, 1)).await;
    let probe = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", app.server.rest);
    let mut waiting = connect(&app, &probe).await;
    assert!(read_until(&mut waiting, "200 OK").await.contains("200 OK"));

    let (silent, partial) = (connect(&app, "").await, connect(&app, &probe[..20]).await);
    let (third, most) = (connect(&app, "PRI").await, connect(&app, "PRI * HTTP/2.0\r\n\r\nSM\r\n").await);
    for mut slow in [silent, partial, third, most] {
        assert_eq!(read_until(&mut slow, "never").await, "", "the connection is closed without an answer");
    }
    let head = format!(
        "POST {NAMESPACES} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 100\r\n\r\n{{",
        app.server.rest
    );
    let mut slow = connect(&app, &head).await;
    let answer = read_until(&mut slow, "limits.body_seconds").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("limits.body_seconds"), "{answer}");

    // The first one has waited for longer than that, for its next request.
    waiting.write_all(probe.as_bytes()).await.expect("sent");
    assert!(read_until(&mut waiting, "200 OK").await.contains("200 OK"), "a connection that is kept");
    // Headers that begin later are timed too.
    waiting.write_all(&probe.as_bytes()[..20]).await.expect("sent");
    let rest = read_until(&mut waiting, "never").await;
    assert!(!rest.contains("HTTP/1.1 200"), "{rest}");
}

/// Over HTTP/2, a client that answers whether it is still there would keep its connection for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_uses_ends_and_one_with_a_request_at_work_does_not() {
    let app = TestApp::start_with(|c| c.limits.idle_seconds = 1).await;
    let body = json!({"namespace": ["late"]}).to_string();
    let head = format!(
        "POST {NAMESPACES} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        app.server.rest,
        body.len()
    );
    let mut at_work = connect(&app, &head).await;

    let mut kept = connect(&app, &format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", app.server.rest)).await;
    assert!(read_until(&mut kept, "200 OK").await.contains("200 OK"));
    read_until(&mut kept, "never").await;

    let mut over_2 = connect(&app, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    over_2.write_all(&frame(4, 0, 0, &[])).await.expect("sent");
    let ends = async {
        let mut says_so = false;
        loop {
            let mut head = [0; 9];
            if over_2.read_exact(&mut head).await.is_err() {
                return says_so;
            }
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            over_2.read_exact(&mut payload).await.expect("the rest of a frame");
            match (head[3], head[4]) {
                // A PING that is no answer is answered.
                (6, 0) => over_2.write_all(&frame(6, 1, 0, &payload)).await.unwrap_or_default(),
                (7, _) => says_so = true,
                _ => {}
            }
        }
    };
    assert!(tokio::time::timeout(PATIENCE, ends).await.expect("it ends"), "with GOAWAY");

    at_work.write_all(body.as_bytes()).await.expect("sent");
    let answer = read_until(&mut at_work, "late").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("late"), "{answer}");
}

/// Tokens of identity providers with many groups are that long.
#[tokio::test(flavor = "multi_thread")]
async fn headers_up_to_the_limit_pass_over_http_2_too() {
    let app = TestApp::start().await;
    let mut client = app.flight().await;
    client.set_header("x-long", "x".repeat(24 << 10));
    client.execute("SELECT 1".to_owned(), None).await.expect("planned");
}
