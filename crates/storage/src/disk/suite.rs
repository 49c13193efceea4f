//! One suite for both twins of the disk seam, then what only the simulated
//! one can do.

use std::io;
use std::sync::Arc;

use super::{Disk, RealDisk, SECTOR_BYTES, SimDisk};

fn with_twins(story: impl Fn(Arc<dyn Disk>)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    story(Arc::new(RealDisk::open(folder.path()).expect("a fresh folder opens")));
    story(SimDisk::new(1).mount().expect("a fresh disk mounts"));
}

fn read(disk: &dyn Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name, false).expect("the file exists");
    let mut bytes = vec![0; usize::try_from(file.length().expect("len")).expect("small")];
    file.read_at(0, &mut bytes).expect("whole file");
    bytes
}

#[test]
fn bytes_written_are_bytes_read() {
    with_twins(|disk| {
        let file = disk.open("dir/a", true).expect("create");
        file.write_at(0, b"hello").expect("write");
        file.write_at(700, b"far").expect("write");
        file.sync().expect("sync");
        let bytes = read(&*disk, "dir/a");
        assert_eq!((&bytes[..5], &bytes[700..], bytes.len()), (&b"hello"[..], &b"far"[..], 703));
        let mut past = [0; 10];
        let error = file.read_at(700, &mut past).expect_err("past the end");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_missing_file_is_not_found() {
    with_twins(|disk| {
        for error in
            [disk.open("none", false).err(), disk.remove("none").err(), disk.rename("none", "other").err()]
        {
            assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        }
    });
}

#[test]
fn listing_is_sorted_and_of_one_directory() {
    with_twins(|disk| {
        for name in ["b/2", "b/1", "a", "b/3"] {
            disk.open(name, true).expect("create");
        }
        disk.rename("b/3", "b/0").expect("rename");
        disk.remove("b/2").expect("remove");
        disk.sync_dir("b").expect("sync");
        assert_eq!(disk.list("b").expect("list"), ["0", "1"]);
        assert_eq!(disk.list("").expect("list"), ["a"]);
        assert_eq!(disk.list("nowhere").expect("list"), Vec::<String>::new());
    });
}

#[test]
fn blocks_and_odd_pieces_meet_in_one_file() {
    with_twins(|disk| {
        let file = disk.open("wal/mixed", true).expect("create");
        file.zero_fill(1024 * 1024).expect("fill");
        let mut model = vec![0; 1024 * 1024];
        let pieces = [(0, 600 * 1024), (100, 50), (4096, 8192), (8190, 4096), (4096, 4096), (512 * 1024, 16)];
        for (number, (offset, bytes)) in (1_u8..).zip(pieces) {
            let data = vec![number; bytes];
            file.write_at(offset as u64, &data).expect("write");
            model[offset..offset + bytes].copy_from_slice(&data);
            file.sync().expect("sync");
            let mut around = vec![0; 32 * 1024];
            file.read_at(0, &mut around).expect("read");
            assert!(around == model[..32 * 1024], "after piece {number}");
        }
        assert!(read(&*disk, "wal/mixed") == model);
    });
}

#[test]
fn zero_fill_allocates_and_overwrites() {
    with_twins(|disk| {
        let file = disk.open("z", true).expect("create");
        file.write_at(0, b"old").expect("write");
        file.zero_fill(3 * 4096).expect("fill");
        assert_eq!(read(&*disk, "z"), vec![0; 3 * 4096]);
        file.set_len(10).expect("cut");
        assert_eq!(file.length().expect("len"), 10);
        assert!(disk.free_bytes().expect("free") > 0);
    });
}

#[test]
fn allocated_space_is_taken_and_keeps_what_was_there() {
    with_twins(|disk| {
        let file = disk.open("a", true).expect("create");
        file.write_at(0, b"old").expect("write");
        file.allocate(2 * 4096).expect("allocate");
        let bytes = read(&*disk, "a");
        assert_eq!((&bytes[..3], bytes.len()), (&b"old"[..], 2 * 4096));
        assert!(bytes[3..].iter().all(|byte| *byte == 0));
    });
    let disk = SimDisk::new(1);
    let mount = disk.mount().expect("mount");
    let file = mount.open("a", true).expect("create");
    disk.set_capacity(100);
    assert_eq!(file.allocate(101).map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = RealDisk::open(folder.path()).expect("opens");
    let error = RealDisk::open(folder.path()).err().expect("locked");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("another process"), "{error}");
    drop(first);
    RealDisk::open(folder.path()).expect("free again");

    let disk = SimDisk::new(1);
    let first = disk.mount().expect("mounts");
    assert_eq!(disk.mount().err().map(|error| error.kind()), Some(io::ErrorKind::ResourceBusy));
    drop(first);
    disk.mount().expect("free again");
}

#[test]
fn a_crash_keeps_what_was_synced_and_tears_by_sector() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let mount = disk.mount().expect("mount");
        let file = mount.open("f", true).expect("create");
        file.write_at(0, &[1; 4 * SECTOR_BYTES]).expect("write");
        file.sync().expect("sync");
        mount.sync_dir("").expect("sync");
        file.write_at(SECTOR_BYTES as u64, &[2; 2 * SECTOR_BYTES]).expect("write");
        disk.crash();
        assert!(file.write_at(0, b"zombie").is_err(), "a dead process cannot write");
        let bytes = disk.content("f").expect("synced name");
        assert!(bytes[..SECTOR_BYTES].iter().chain(&bytes[3 * SECTOR_BYTES..]).all(|byte| *byte == 1));
        let sectors: Vec<u8> = bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        match (sectors[1], sectors[2]) {
            (1, 1) => lost += 1,
            (2, 2) => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 20 && kept > 20 && torn > 10, "{lost} {kept} {torn}");
}

#[test]
fn a_name_that_was_not_synced_may_vanish() {
    let survived = (0..100)
        .filter(|seed| {
            let disk = SimDisk::new(*seed);
            let mount = disk.mount().expect("mount");
            mount.open("f", true).expect("create").sync().expect("sync");
            disk.crash();
            disk.content("f").is_some()
        })
        .count();
    assert!((20..80).contains(&survived), "{survived}");
}

#[test]
fn injected_failures_happen_once_each() {
    let disk = SimDisk::new(3);
    let mount = disk.mount().expect("mount");
    let file = mount.open("f", true).expect("create");
    disk.fail_syncs(1);
    assert!(file.sync().is_err() && file.sync().is_ok());
    disk.fail_writes(1);
    assert!(file.write_at(0, b"x").is_err() && file.write_at(0, b"x").is_ok());
    disk.fill_up();
    assert_eq!(mount.free_bytes().expect("free"), 0);
    file.write_at(0, b"y").expect("inside the file");
    let error = file.write_at(1, b"z").expect_err("no room to grow");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(disk.corrupt("f", 0, 1) && !disk.corrupt("f", 1, 1));
}
