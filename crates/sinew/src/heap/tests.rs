use super::*;

const LARGE: usize = 64 * 1024 * 1024;

/// Other tests run beside this one: what they use is little against it.
fn grew_by(before: usize) -> bool {
    (LARGE / 2..LARGE * 2).contains(&bytes_in_use().saturating_sub(before))
}

#[test]
fn memory_is_counted_while_it_is_used() {
    for batches in [false, true] {
        let counted = std::thread::spawn(move || {
            if batches {
                batch();
            }
            let before = bytes_in_use();
            let mut memory = vec![0_u8; LARGE / 4];
            memory.reserve_exact(LARGE - memory.len());
            assert!(grew_by(before), "{} after {before}", bytes_in_use());
            // Given back by another thread.
            let after = std::thread::spawn(move || {
                assert!(grew_by(before));
                drop(memory);
                bytes_in_use()
            });
            let after = after.join().unwrap();
            assert!(after < before + LARGE / 2, "{after} after {before}");
        });
        counted.join().unwrap();
    }
}

#[test]
fn what_a_thread_has_not_told_is_told_at_its_end() {
    const SMALL: usize = 32 * 1024;
    let before = bytes_in_use();
    let works = || {
        batch();
        let memory = vec![0_u8; SMALL];
        settle();
        memory
    };
    let memory: Vec<_> = (0..LARGE / SMALL).map(|_| std::thread::spawn(works).join().unwrap()).collect();
    assert!(grew_by(before), "{} after {before}", bytes_in_use());
    drop(memory);
}
