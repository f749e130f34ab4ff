//! Properties over arbitrary commands, streams, responses and bytes.

use std::sync::Arc;

use bytes::Bytes;
use gyre_protocol::{
    client::*,
    codec::{EncodeOptions, Encoding, StreamDecoder},
    codes::*,
};
use proptest::{collection::vec, option, prelude::*};

use super::tree::{self, Style};

type Owned = Command<'static>;

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        2 => "[a-z:_#$0-9]{0,20}",
        1 => vec(any::<char>(), 0..6).prop_map(String::from_iter),
        1 => vec(prop::sample::select(vec!['"', '\\', '\n', '\u{1}', '<', '&', 'é', '\u{2028}', '😀']), 0..9)
            .prop_map(String::from_iter),
    ]
    .boxed()
}

fn cow() -> impl Strategy<Value = std::borrow::Cow<'static, str>> {
    text().prop_map(Into::into)
}

/// One JSON value, as text without line feeds.
fn json() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        (-1e9..1e9f64).prop_map(|number| format!("{number:e}")),
        text().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(" , "))),
            vec((text(), inner), 0..3).prop_map(|members| {
                let member = |(key, value): &(String, String)| format!("{} :{value}", serde_json::json!(key));
                format!("{{ {}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }),
        ]
    })
    .boxed()
}

fn data() -> impl Strategy<Value = std::borrow::Cow<'static, [u8]>> {
    prop_oneof![1 => Just(String::new()), 3 => json()].prop_map(|text| text.into_bytes().into())
}

fn filter() -> impl Strategy<Value = FilterNode<'static>> {
    let leaf = (cow(), cow(), cow(), vec(cow(), 0..3)).prop_map(|(key, cmp, val, vals)| FilterNode {
        key,
        cmp,
        val,
        vals,
        ..Default::default()
    });
    leaf.prop_recursive(3, 8, 3, |inner| {
        (cow(), vec(inner, 0..3)).prop_map(|(op, nodes)| FilterNode { op, nodes, ..Default::default() })
    })
}

fn subscribe() -> impl Strategy<Value = SubscribeRequest<'static>> {
    let texts = (cow(), cow(), cow(), cow(), cow());
    let flags = any::<[bool; 5]>();
    let numbers = (any::<u64>(), any::<i64>(), any::<i32>(), any::<i32>(), any::<i32>());
    (texts, flags, numbers, data(), option::of(filter())).prop_map(|(texts, flags, numbers, data, tf)| {
        let (channel, token, epoch, delta, cursor) = texts;
        let [recover, positioned, recoverable, join_leave, asc] = flags;
        let (offset, flag, kind, phase, limit) = numbers;
        SubscribeRequest {
            channel,
            token,
            recover,
            epoch,
            offset,
            data,
            positioned,
            recoverable,
            join_leave,
            delta,
            tf,
            flag,
            kind,
            phase,
            cursor,
            limit,
            asc,
        }
    })
}

fn map<V: std::fmt::Debug>(
    value: impl Strategy<Value = V>,
) -> impl Strategy<Value = Vec<(std::borrow::Cow<'static, str>, V)>> {
    prop::collection::btree_map(text(), value, 0..4)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn connect() -> impl Strategy<Value = ConnectRequest<'static>> {
    (cow(), data(), map(subscribe()), cow(), cow(), map(cow()), any::<i64>()).prop_map(
        |(token, data, subs, name, version, headers, flag)| ConnectRequest {
            token,
            data,
            subs,
            name,
            version,
            headers,
            flag,
        },
    )
}

fn sub_refresh() -> impl Strategy<Value = SubRefreshRequest<'static>> {
    let batch = (cow(), vec((cow(), any::<u64>()), 0..3))
        .prop_map(|(signature, items)| TrackBatch { signature, items });
    (cow(), cow(), any::<i32>(), vec(batch, 0..3), vec(cow(), 0..3)).prop_map(
        |(channel, token, kind, track, untrack)| SubRefreshRequest { channel, token, kind, track, untrack },
    )
}

fn request() -> impl Strategy<Value = Request<'static>> {
    let channel = || cow().prop_map(|channel| ChannelRequest { channel });
    prop_oneof![
        connect().prop_map(|it| Request::Connect(Box::new(it))),
        subscribe().prop_map(|it| Request::Subscribe(Box::new(it))),
        channel().prop_map(Request::Unsubscribe),
        (cow(), data(), any::<i32>(), cow(), any::<bool>()).prop_map(
            |(channel, data, kind, key, removed)| Request::Publish(PublishRequest {
                channel,
                data,
                kind,
                key,
                removed
            })
        ),
        channel().prop_map(Request::Presence),
        channel().prop_map(Request::PresenceStats),
        (cow(), any::<i32>(), option::of((any::<u64>(), cow())), any::<bool>()).prop_map(
            |(channel, limit, since, reverse)| Request::History(HistoryRequest {
                channel,
                limit,
                since,
                reverse
            })
        ),
        (data(), cow()).prop_map(|(data, method)| Request::Rpc(RpcRequest { data, method })),
        data().prop_map(|data| Request::Send(SendRequest { data })),
        cow().prop_map(|token| Request::Refresh(RefreshRequest { token })),
        sub_refresh().prop_map(|it| Request::SubRefresh(Box::new(it))),
        Just(Request::Ping),
    ]
}

fn command() -> impl Strategy<Value = Owned> {
    (any::<u32>(), option::weighted(0.95, request())).prop_map(|(id, request)| Command { id, request })
}

fn style() -> impl Strategy<Value = Style> {
    any::<[bool; 3]>().prop_map(|[escape_all, spaced, capitals]| Style { escape_all, spaced, capitals })
}

/// The order of map entries has no meaning.
fn sorted(mut command: Command<'_>) -> Command<'_> {
    if let Some(Request::Connect(connect)) = &mut command.request {
        connect.subs.sort_by(|a, b| a.0.cmp(&b.0));
        connect.headers.sort();
    }
    command
}

/// Bytes of one command in a stream.
fn framed(encoding: Encoding, command: &Owned) -> Vec<u8> {
    let fields = tree::command(command);
    match encoding {
        Encoding::Json => [tree::json(&fields, Style::default()).as_bytes(), b"\n"].concat(),
        Encoding::Protobuf => tree::with_length(&tree::protobuf(&fields)),
    }
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Json), Just(Encoding::Protobuf)]
}

/// Cuts bytes at the places given.
fn chunks(bytes: &[u8], mut cuts: Vec<prop::sample::Index>) -> Vec<Bytes> {
    let mut places: Vec<_> = cuts.drain(..).map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).collect()
}

/// All that a stream gives: commands, and whether it ended in an error.
fn read_stream(encoding: Encoding, limit: usize, chunks: &[Bytes]) -> (Vec<Bytes>, bool) {
    let mut decoder = StreamDecoder::new(encoding, limit);
    let mut commands = Vec::new();
    for chunk in chunks {
        decoder.push(chunk.clone());
        loop {
            match decoder.next_command() {
                Ok(Some(command)) => commands.push(command),
                Ok(None) => break,
                Err(_) => return (commands, true),
            }
        }
    }
    (commands, false)
}

fn payload() -> impl Strategy<Value = Payload> {
    (json(), any::<bool>())
        .prop_map(|(text, spread)| Payload::new(if spread { format!("\n{text}\n") } else { text }))
}

fn info() -> impl Strategy<Value = Arc<ClientInfo>> {
    (text(), text(), payload(), payload()).prop_map(|(user, client, conn_info, chan_info)| {
        Arc::new(ClientInfo { user: user.into(), client: client.into(), conn_info, chan_info })
    })
}

fn publication() -> impl Strategy<Value = Arc<Publication>> {
    let tags = prop::collection::btree_map(text(), text(), 0..3);
    let numbers = (0..3u64, any::<i64>(), any::<u64>());
    (payload(), option::of(info()), tags, text(), any::<bool>(), numbers, text()).prop_map(
        |(data, info, tags, key, removed, (offset, score, version), epoch)| {
            Arc::new(Publication {
                data,
                info,
                offset,
                tags: tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
                delta: false,
                key: key.into(),
                removed,
                score,
                epoch: Epoch::new(&epoch),
                version,
            })
        },
    )
}

fn push() -> impl Strategy<Value = Push> {
    let body = prop_oneof![
        3 => publication().prop_map(PushBody::Publication),
        1 => info().prop_map(PushBody::Join),
        1 => payload().prop_map(PushBody::Message),
        1 => text().prop_map(|reason| PushBody::Disconnect(Disconnect { code: 4000, reason: reason.into() })),
        1 => (text(), vec(publication(), 0..3), any::<bool>()).prop_map(|(channel, publications, delta)| {
            let sub = SubscribeResult { publications, delta, ..Default::default() };
            let subs = vec![(channel.into(), sub)];
            PushBody::Connect(Box::new(ConnectResult { subs, ..Default::default() }))
        }),
    ];
    (text(), body).prop_map(|(channel, body)| Push { channel: channel.into(), id: 0, body })
}

proptest! {
    /// Goal: both encodings mean the same command, however it is written. Method: write an arbitrary command with
    /// fields turned around, in any JSON style, and decode it.
    #[test]
    fn commands_survive(command in command(), style in style(), turn in any::<prop::sample::Index>()) {
        let mut fields = tree::command(&command);
        if let Some((_, _, tree::Node::Message(inner))) = fields.get_mut(1) {
            let turn = turn.index(inner.len().max(1));
            inner.rotate_left(turn);
        }
        let count = fields.len();
        fields.rotate_left(turn.index(count));
        let line = tree::json(&fields, style);
        prop_assert_eq!(&sorted(Encoding::Json.decode_command(line.as_bytes()).unwrap()), &command);
        let message = tree::protobuf(&fields);
        prop_assert_eq!(&sorted(Encoding::Protobuf.decode_command(&message).unwrap()), &command);
    }

    /// Goal: a stream gives the same commands wherever it is cut. Method: arbitrary commands, arbitrary cuts.
    #[test]
    fn streams_survive_cuts(
        encoding in encoding(),
        commands in vec(command(), 0..4),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| framed(encoding, command)).collect();
        let (taken, failed) = read_stream(encoding, bytes.len(), &chunks(&bytes, cuts));
        prop_assert!(!failed);
        let decoded: Vec<_> =
            taken.iter().map(|bytes| sorted(encoding.decode_command(bytes).unwrap())).collect();
        prop_assert_eq!(decoded, commands);
    }

    /// Goal: also what is wrong does not depend on the cuts. Method: arbitrary bytes with many delimiters under a small
    /// limit, whole and cut.
    #[test]
    fn bad_streams_fail_alike(
        encoding in encoding(),
        bytes in vec(prop_oneof![Just(b'\n'), Just(2), Just(9), Just(0x80), any::<u8>()], 0..60),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = read_stream(encoding, 8, &[Bytes::from(bytes.clone())]);
        prop_assert_eq!(read_stream(encoding, 8, &chunks(&bytes, cuts)), whole);
    }

    /// Goal: no input panics. Method: arbitrary bytes as frame, command and stream.
    #[test]
    fn random_bytes_never_panic(encoding in encoding(), bytes in vec(any::<u8>(), 0..200)) {
        drop(encoding.decode_command(&bytes));
        for command in encoding.split_frame(&bytes).flatten() {
            drop(encoding.decode_command(command));
        }
        read_stream(encoding, 64, &[bytes.into()]);
    }

    /// Goal: no input that looks like a command panics. Method: valid commands with a few bytes changed or cut off.
    #[test]
    fn damaged_commands_never_panic(
        encoding in encoding(),
        command in command(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = framed(encoding, &command);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        for frame in [&bytes[..], &bytes[..end.index(bytes.len())]] {
            for command in encoding.split_frame(frame).flatten() {
                drop(encoding.decode_command(command));
            }
        }
    }

    /// Goal: whatever decodes as JSON here is JSON, with the raw data among its values. Method: documents close to
    /// JSON, judged by serde_json.
    #[test]
    fn accepted_json_is_json(text in r#"[\[\]{}:,"\\ a1e.+\-truefalsn0]{0,12}"#) {
        let line = format!(r#"{{"rpc":{{"data":{text}}}}}"#);
        let ours = Encoding::Json.decode_command(line.as_bytes()).is_ok();
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&line).is_ok();
        prop_assert_eq!(ours, theirs, "{}", line);
    }

    /// Goal: pushes are one line of JSON, and ASCII output means the same. Method: parse both forms of arbitrary
    /// pushes, plain and in delta form.
    #[test]
    fn ascii_means_the_same(push in push(), delta in any::<bool>(), unidirectional in any::<bool>()) {
        let mut values = Vec::new();
        for ascii in [false, true] {
            let mut out = Vec::new();
            Encoding::Json.encode_push(&push, &EncodeOptions { ascii, delta, unidirectional }, &mut out).unwrap();
            prop_assert!(!out.contains(&b'\n'));
            prop_assert!(!ascii || out.is_ascii());
            values.push(serde_json::from_slice::<serde_json::Value>(&out).unwrap());
        }
        prop_assert_eq!(&values[0], &values[1]);
    }
}
