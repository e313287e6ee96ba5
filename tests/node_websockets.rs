//! `WebSocket`s through a real node, spoken by a library of others (tungstenite) at both ends.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use kit::{Node, PATIENCE};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_hdr_async, connect_async};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The longest frame that the server sends; what is longer it sends in pieces.
const FRAME_MAX: usize = 100_000;

/// A server that gives back what it gets, and a node before it.
struct World {
    node: Node,
    /// What is no text and no bytes, and how each connection ended.
    said: mpsc::UnboundedReceiver<String>,
    _server: JoinSet<()>,
}

impl World {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = format!(
            "[services.s]\nendpoints = [\"http://{}\"]\n[[routes]]\nid = \"chat\"\nmatch = {{ path = \"/chat\" }}\n\
             forward = {{ service = \"s\" }}\n",
            listener.local_addr().unwrap()
        );
        let (says, said) = mpsc::unbounded_channel();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(echo(stream, says.clone()));
            }
        });
        let mut node = Node::new(&config);
        node.start().await;
        Self { node, said, _server: server }
    }

    async fn connect(&self) -> Client {
        connect_async(format!("ws://{}/chat", self.node.listen())).await.unwrap().0
    }

    async fn hears(&mut self) -> String {
        timeout(PATIENCE, self.said.recv()).await.expect("the server says something").unwrap()
    }
}

#[expect(clippy::result_large_err, reason = "the library wants it so")]
async fn echo(stream: TcpStream, says: mpsc::UnboundedSender<String>) {
    let grant = |request: &Request, mut response: Response| {
        if let Some(first) = request.headers().get("sec-websocket-protocol") {
            assert_eq!(first, "v2.chat, v1.chat");
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("v1.chat"));
        }
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, grant).await.unwrap();
    loop {
        let said = match socket.next().await {
            Some(Ok(Message::Text(text))) if text.starts_with("close with ") => {
                let code: u16 = text.rsplit(' ').next().unwrap().parse().unwrap();
                socket.close(Some(frame(code, "the server has had enough"))).await.unwrap();
                continue;
            }
            Some(Ok(Message::Text(text))) if text == "ping me" => {
                socket.send(Message::Ping(Bytes::from_static(b"are you there"))).await.unwrap();
                continue;
            }
            Some(Ok(Message::Text(text))) if text == "vanish" => return,
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                send(&mut socket, message, FRAME_MAX).await;
                continue;
            }
            Some(Ok(Message::Ping(_))) => continue,
            Some(Ok(other)) => format!("{other:?}"),
            Some(Err(error)) => format!("broken: {error}"),
            None => "ended".to_owned(),
        };
        let is_over = said.starts_with("broken") || said == "ended";
        if says.send(said).is_err() || is_over {
            return;
        }
    }
}

/// Sends a message in frames of at most this length.
async fn send<S>(socket: &mut WebSocketStream<S>, message: Message, length_max: usize)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut kind = if message.is_text() { Data::Text } else { Data::Binary };
    let mut rest = message.into_data();
    loop {
        let piece = rest.split_to(rest.len().min(length_max));
        let frame = Frame::message(piece, OpCode::Data(kind), rest.is_empty());
        socket.send(Message::Frame(frame)).await.unwrap();
        if rest.is_empty() {
            return;
        }
        kind = Data::Continue;
    }
}

fn frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame { code: CloseCode::from(code), reason: reason.into() }
}

async fn next(client: &mut Client) -> Message {
    timeout(PATIENCE, client.next()).await.expect("something comes").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_every_length_come_back_as_they_were_sent_whole_and_in_pieces() {
    let world = World::start().await;
    let mut client = world.connect().await;
    // The lengths at which a frame is written in another way, and more than any buffer on the way has room for.
    for length in [0, 1, 125, 126, 65_535, 65_536, 1_000_000, 8_000_000] {
        let bytes: Bytes = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for length_max in [usize::MAX, length / 7 + 1] {
            send(&mut client, Message::Binary(bytes.clone()), length_max).await;
            assert_eq!(next(&mut client).await.into_data(), bytes, "{length} in {length_max}");
        }
    }
    let text = "Größe: 𝄞 und 漢字 ".repeat(10_000);
    send(&mut client, Message::text(text.clone()), 65_537).await;
    assert_eq!(next(&mut client).await, Message::text(text), "characters are cut apart and whole again");
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_from_end_to_end_also_in_the_midst_of_a_message() {
    let mut world = World::start().await;
    let mut client = world.connect().await;
    let piece = |data, kind, is_last| Message::Frame(Frame::message(data, OpCode::Data(kind), is_last));
    client.send(piece("one, ", Data::Text, false)).await.unwrap();
    client.send(Message::Ping(Bytes::from_static(b"still there?"))).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Pong(Bytes::from_static(b"still there?")));
    client.send(piece("two", Data::Continue, true)).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("one, two"));

    client.send(Message::text("ping me")).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Ping(Bytes::from_static(b"are you there")));
    client.flush().await.unwrap();
    assert_eq!(world.hears().await, format!("{:?}", Message::Pong(Bytes::from_static(b"are you there"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn close_codes_and_their_reasons_arrive_on_either_side() {
    let mut world = World::start().await;
    for code in [1000, 1001, 3000, 4999] {
        let mut client = world.connect().await;
        client.close(Some(frame(code, "the client has had enough"))).await.unwrap();
        let closed = Message::Close(Some(frame(code, "the client has had enough")));
        assert_eq!(world.hears().await, format!("{closed:?}"));
        assert_eq!(next(&mut client).await, closed, "it is agreed to");
        assert!(
            timeout(PATIENCE, client.next()).await.unwrap().is_none(),
            "and the connection ends in order"
        );
        assert_eq!(world.hears().await, "ended");

        let mut client = world.connect().await;
        client.send(Message::text(format!("close with {code}"))).await.unwrap();
        assert_eq!(next(&mut client).await, Message::Close(Some(frame(code, "the server has had enough"))));
        assert!(timeout(PATIENCE, client.next()).await.unwrap().is_none());
        assert!(world.hears().await.starts_with("Close("), "the client agreed");
        assert_eq!(world.hears().await, "ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_vanishes_without_a_word_is_missed_by_the_other() {
    let mut world = World::start().await;
    let mut client = world.connect().await;
    client.send(Message::text("here")).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("here"));
    drop(client);
    let said = world.hears().await;
    assert!(said.starts_with("broken: "), "{said}");

    let mut client = world.connect().await;
    client.send(Message::text("vanish")).await.unwrap();
    let ended = timeout(PATIENCE, client.next()).await.expect("the client is told");
    assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sockets_at_once_each_hear_their_own_words() {
    let world = World::start().await;
    let mut talks = JoinSet::new();
    for number in 0..200 {
        let mut client = world.connect().await;
        talks.spawn(async move {
            for turn in 0..20 {
                let said = format!("{number}.{turn}.{}", "x".repeat(number * 20));
                client.send(Message::text(said.clone())).await.unwrap();
                assert_eq!(next(&mut client).await, Message::text(said));
            }
            client
        });
    }
    let clients = timeout(Duration::from_mins(1), talks.join_all()).await.expect("all are served");
    assert_eq!(clients.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_that_is_spoken_inside_is_agreed_upon_between_the_ends() {
    let world = World::start().await;
    let mut wish = format!("ws://{}/chat", world.node.listen()).into_client_request().unwrap();
    wish.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("v2.chat, v1.chat"));
    let (mut client, grant) = connect_async(wish).await.unwrap();
    assert_eq!(grant.headers()["sec-websocket-protocol"], "v1.chat");
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("hello"));
}
