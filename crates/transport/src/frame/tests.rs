use sinew_spec::proxy::ProxyMessage;

use super::*;

async fn read_all(bytes: &[u8]) -> Vec<Result<ProxyMessage, String>> {
    let mut stream = bytes;
    let mut reader = FrameReader::new();
    let mut found = Vec::new();
    loop {
        match reader.next(&mut stream).await {
            Ok(Some(message)) => found.push(Ok(message)),
            Ok(None) => return found,
            Err(error) => {
                found.push(Err(error.to_string()));
                return found;
            }
        }
    }
}

#[tokio::test]
async fn messages_come_out_as_they_went_in() {
    let mut bytes = Vec::new();
    for revision in 0..300 {
        write_frame(&mut bytes, &ProxyMessage::Applied { revision }).await.unwrap();
    }
    let found = read_all(&bytes).await;
    assert_eq!(found, (0..300).map(|revision| Ok(ProxyMessage::Applied { revision })).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_message_is_an_error() {
    assert_eq!(read_all(&[0, 0]).await, [Err("the stream ended within a message".to_owned())]);
    assert_eq!(
        read_all(&[0xff, 0, 0, 0, 1]).await,
        [Err("a message of 4278190080 bytes, more than 8388608".to_owned())]
    );
    assert!(read_all(&[0, 0, 0, 2, b'{', b'}']).await[0].is_err());
}
