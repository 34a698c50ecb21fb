use super::*;

fn header(path: &str, size: u64) -> Header {
    Header { path: MemberPath::parse(path).expect("a path"), size, executable: false }
}

#[test]
fn headers_are_read_as_they_are_written() {
    let deep = format!("files/{}/{}", "folder/".repeat(20).trim_end_matches('/'), "n".repeat(90));
    for path in ["files/compose.yaml", deep.as_str(), "manifest.json"] {
        for size in [0, 1, 512, OCTAL_SIZE_MAX, OCTAL_SIZE_MAX + 1, u64::MAX] {
            let mut header = header(path, size);
            assert_eq!(Header::decode(&header.encode()), Ok(header.clone()));
            header.executable = true;
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_seen() {
    let block = header("files/compose.yaml", 12_345).encode();
    for bit in 0..BLOCK * 8 {
        let mut flipped = block;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(&flipped).is_err(), "bit {bit}");
    }
}

/// With a right checksum: the work of somebody who knows what they do.
#[track_caller]
fn check(change: impl FnOnce(&mut [u8; BLOCK]), expected: HeaderError) {
    let mut block = header("files/x", 1).encode();
    change(&mut block);
    put(&mut block, CHECKSUM, b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut block, CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(Header::decode(&block), Err(expected));
}

#[test]
fn nothing_but_plain_files_below_the_bundle() {
    check(|block| block[KIND] = b'1', HeaderError::Link("files/x".to_owned()));
    check(|block| block[KIND] = b'2', HeaderError::Link("files/x".to_owned()));
    check(|block| block[KIND] = b'5', HeaderError::Kind("files/x".to_owned()));
    check(|block| block[KIND] = b'x', HeaderError::Kind("files/x".to_owned()));
    check(|block| block[OWNER + 6] = b'7', HeaderError::Unusual("files/x".to_owned()));
    check(|block| block[TIME + 6] = b'7', HeaderError::Unusual("files/x".to_owned()));
    check(|block| block[BLOCK - 1] = 1, HeaderError::Unusual("files/x".to_owned()));
    check(|block| block[MODE + 3] = b'4', HeaderError::Unusual("files/x".to_owned()));
    check(|block| block[MAGIC] = b'U', HeaderError::NoTar);
    let traversal = HeaderError::Path {
        path: "files/../../x".to_owned(),
        wrong: "the path leaves its folder or is not in its shortest form".to_owned(),
    };
    check(|block| put(block, NAME, b"files/../../x"), traversal);
    let absolute = HeaderError::Path { path: "/x".to_owned(), wrong: "the path is absolute".to_owned() };
    check(|block| put(block, NAME, b"/x\0\0\0\0\0"), absolute);
}

#[test]
fn contents_fill_whole_blocks() {
    for (size, zeroes) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)] {
        assert_eq!(padding(size), zeroes, "{size}");
    }
}
