//! Whole conversations that nobody thought of.

use proptest::prelude::*;

use super::*;

/// One request and its response, by sizes.
#[derive(Clone, Debug)]
struct Message {
    fields: Vec<(u8, u8)>,
    body: u32,
    answer: u32,
    has_trailers: bool,
    is_reset: bool,
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let size = prop_oneof![4 => 0..50u32, 1 => 0..40_000u32];
    let message =
        (proptest::collection::vec((0..4u8, 0..3u8), 0..5), size.clone(), size, any::<bool>(), 0..8u8)
            .prop_map(|(fields, body, answer, has_trailers, reset)| Message {
                fields,
                body,
                answer,
                has_trailers,
                is_reset: reset == 0,
            });
    proptest::collection::vec(message, 1..12)
}

/// A driver that sends bodies as windows allow, and moves bytes in pieces of a size.
struct Pump {
    client: End,
    server: End,
    /// What is left to send, by stream; of the server's once it has seen the end of the request.
    requests: Vec<(StreamKey, Vec<u8>, bool)>,
    answers: Vec<(StreamKey, Vec<u8>, bool)>,
    seen: Vec<String>,
}

const TRAILER: [(&[u8], &[u8]); 1] = [(b"x-sum", b"1")];

fn send(end: &mut End, queue: &mut Vec<(StreamKey, Vec<u8>, bool)>) {
    queue.retain_mut(|(key, body, has_trailers)| {
        let Ok(count) = end.connection.send_data(*key, body, !*has_trailers) else { return false };
        body.drain(..count);
        if *has_trailers && body.is_empty() {
            end.connection.send_trailers(*key, TRAILER.into_iter()).expect("open");
        }
        !body.is_empty()
    });
}

impl Pump {
    fn run(messages: &[Message], size: usize, window: u32) -> Vec<String> {
        let limits = Limits { stream_window_bytes: window, ..Limits::DEFAULT };
        let mut pump = Self {
            client: End::new(Connection::client(limits)),
            server: End::new(Connection::server(limits)),
            requests: Vec::new(),
            answers: Vec::new(),
            seen: Vec::new(),
        };
        for (i, message) in messages.iter().enumerate() {
            pump.open(i, message);
        }
        for _ in 0..1_000_000 {
            let is_idle = !pump.turn(messages, size);
            if is_idle {
                break;
            }
        }
        assert!(pump.requests.is_empty() && pump.answers.is_empty(), "everything is sent");
        assert_eq!(pump.client.connection.failed, None);
        assert_eq!(pump.server.connection.failed, None);
        assert_eq!(pump.client.connection.open_streams(), 0);
        assert_eq!(pump.server.connection.open_streams(), 0);
        pump.seen
    }

    fn open(&mut self, i: usize, message: &Message) {
        let mut text = format!("POST /{i} HTTP/1.1|Host: a|Transfer-Encoding: chunked|");
        for (name, value) in &message.fields {
            text += &format!("x-{name}: value {value}|");
        }
        let key = self.client.request(&(text + "|"), false);
        self.requests.push((key, vec![b'a' + i as u8; message.body as usize], message.has_trailers));
        if message.is_reset {
            self.client.connection.reset(key, ErrorCode::CANCEL);
        }
        self.seen.push(String::new());
        self.seen.push(String::new());
    }

    /// Whether anything moved.
    fn turn(&mut self, messages: &[Message], size: usize) -> bool {
        send(&mut self.client, &mut self.requests);
        send(&mut self.server, &mut self.answers);
        let mut has_moved = false;
        for is_client in [true, false] {
            let (from, to) = if is_client {
                (&mut self.client, &mut self.server)
            } else {
                (&mut self.server, &mut self.client)
            };
            let piece = from.connection.output()[..from.connection.output().len().min(size)].to_vec();
            from.connection.wrote(piece.len());
            has_moved |= !piece.is_empty();
            for line in to.receive(&piece).lines() {
                self.note(line, is_client, messages);
            }
        }
        has_moved
    }

    fn note(&mut self, line: &str, is_request: bool, messages: &[Message]) {
        let Some((id, rest)) = line.split_once(' ') else { return };
        let Ok(id) = id.parse::<usize>() else { return };
        let i = (id - 1) / 2;
        let place = &mut self.seen[2 * i + usize::from(!is_request)];
        // The pieces of a body are put together.
        match rest.strip_prefix('[').and_then(|body| body.rsplit_once(']')) {
            Some((body, end)) => *place += &format!("{body}{end}"),
            None => *place += &format!("{rest} "),
        }
        if is_request && (rest.ends_with('.') || rest.starts_with("trailers")) {
            let key = self.server.connection.streams.find(id as u32).expect("the stream is open");
            let (request, _) = parsed_request("POST / HTTP/1.1|Host: a||");
            let (head, bytes) =
                parsed_response(&request, "HTTP/1.1 200 OK|Transfer-Encoding: chunked|x-a: b||");
            self.server
                .connection
                .send_response(key, &head, &bytes, &ResponseEdits::default(), false)
                .expect("open");
            self.answers.push((
                key,
                vec![b'A' + i as u8; messages[i].answer as usize],
                messages[i].has_trailers,
            ));
        }
    }
}

/// All but the last bytes are received, and taken, before the acknowledgement that makes windows small: nothing comes then
/// that they could be given back after.
#[test]
fn what_was_taken_under_the_initial_window_is_given_back_under_a_smaller_one() {
    let message = |body| Message { fields: vec![], body, answer: 0, has_trailers: true, is_reset: false };
    let seen = Pump::run(&[message(22_977), message(9_596), message(32_767)], 39, 100);
    assert!(seen[4].ends_with("trailers x-sum=1 "), "the last request came whole");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Both ends see what was meant, whatever the pieces and the windows.
    #[test]
    fn conversations_do_not_depend_on_pieces_and_windows(
        messages in messages(),
        size in prop_oneof![10..100usize, 1000..70_000usize],
        window in 100..200_000u32,
    ) {
        let seen = Pump::run(&messages, size, window);
        for (i, message) in messages.iter().enumerate() {
            let (request, response) = (&seen[2 * i], &seen[2 * i + 1]);
            if message.is_reset {
                prop_assert!(response.is_empty());
                continue;
            }
            let fields: String =
                message.fields.iter().map(|(name, value)| format!(" x-{name}=value {value}")).collect();
            let end = if message.has_trailers { "trailers x-sum=1 " } else { "." };
            let body = char::from(b'a' + i as u8).to_string().repeat(message.body as usize);
            prop_assert_eq!(request, &format!("POST a/{i}{fields} {body}{end}"));
            let body = char::from(b'A' + i as u8).to_string().repeat(message.answer as usize);
            prop_assert_eq!(response, &format!("Final 200 {body}{end}"));
        }
    }
}
