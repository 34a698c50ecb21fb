//! What is hidden stays hidden, whatever is done to it on the host while the seal runs; what is not hidden is what the
//! host has, soon.

use std::os::unix::fs::symlink;
use std::time::Instant;

use sinew_spec::seal::SealMount;

use super::*;

const SECRET: &str = "hidden-from-everybody";
/// Under load; on an idle machine it takes a quarter of a second.
const SOON: Duration = Duration::from_secs(20);

/// A project whose files are shown, and those beside it, on one file system, from which files are moved in.
struct Project {
    host: PathBuf,
    count: usize,
}

impl Project {
    fn new(name: &str) -> Self {
        let host = folder(name);
        for name in ["project/conf", "project/secrets", "project/targets", "project/src", "read", "beside"] {
            fs::create_dir_all(host.join(name)).expect("make a folder");
        }
        let project = Self { host, count: 0 };
        for plain in ["project/app.py", "project/conf/app.conf", "project/src/main.py", "read/notes"] {
            fs::write(project.host.join(plain), "first\n").expect("write");
        }
        for hidden in ["s.txt", "conf/key", "secrets/k", "targets/real"] {
            fs::write(project.at(hidden), SECRET).expect("write");
        }
        fs::write(project.host.join("read/t.txt"), SECRET).expect("write");
        symlink("targets/real", project.at("linked")).expect("link");
        symlink("s.txt", project.at("shown-link")).expect("link");
        project
    }

    fn at(&self, name: &str) -> PathBuf {
        self.host.join("project").join(name)
    }

    fn spec(&self) -> SealSpec {
        let hidden = ["s.txt", "conf/key", "secrets", "linked", "late.txt", "late/er/key"];
        let mut spec = plain();
        spec.shown = vec![self.host.join("project"), self.host.join("read")];
        spec.masked = hidden.iter().map(|name| self.at(name)).collect();
        spec.masked.push(self.host.join("read/t.txt"));
        spec.mounts.push(SealMount {
            source: self.host.join("project"),
            target: "/app".into(),
            read_only: false,
            masked: None,
            covered: Vec::new(),
        });
        spec
    }

    /// A new file or folder outside of what is shown.
    fn made(&mut self, content: &str) -> PathBuf {
        self.count += 1;
        let path = self.host.join(format!("beside/{}", self.count));
        fs::write(&path, content).expect("write");
        path
    }

    fn made_folder(&mut self, files: &[(&str, &str)]) -> PathBuf {
        self.count += 1;
        let path = self.host.join(format!("beside/{}", self.count));
        fs::create_dir(&path).expect("make a folder");
        for (name, content) in files {
            fs::write(path.join(name), content).expect("write");
        }
        path
    }

    fn away(&mut self, name: &str) {
        self.count += 1;
        fs::rename(self.at(name), self.host.join(format!("beside/{}", self.count))).expect("move away");
    }

    /// As an editor saves.
    fn replace(&mut self, name: &str, content: &str) {
        let new = self.made(content);
        fs::rename(new, self.at(name)).expect("replace");
    }
}

/// Reads everything under its arguments again and again until `/tmp/stop` is there, and once more.
const READER: &str = r#"
import os, sys
secret, tops = sys.argv[1].encode()[::-1], sys.argv[2:]
rounds, last = 0, False
while True:
    for top in tops:
        for folder, folders, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    with open(path, "rb") as opened:
                        if secret in opened.read():
                            sys.exit(f"readable: {path} in round {rounds}")
                except OSError:
                    pass
    rounds += 1
    if last:
        break
    last = os.path.exists("/tmp/stop")
print("rounds", rounds)
"#;

#[test]
fn nothing_done_on_the_host_uncovers_what_is_hidden() {
    as_everyone("seal::masks::nothing_done_on_the_host_uncovers_what_is_hidden", async |_| {
        let mut project = Project::new("uncover");
        let mut spec = project.spec();
        spec.files.push(script("reader.py", READER));
        let sealed = Sealed::new("uncover-seal", &spec).await;
        let place = project.host.join("project").display().to_string();
        let read = project.host.join("read").display().to_string();
        // Reversed, or the reader would find its own argument.
        let secret: String = SECRET.chars().rev().collect();
        let arguments = ["python3", "/reader.py", &secret, &place, &read, "/app"];
        let reader = sealed.exec(&arguments);
        let changes = async {
            for round in 0..40 {
                for hidden in ["s.txt", "conf/key", "targets/real", "late.txt"] {
                    project.replace(hidden, SECRET);
                }
                let new = project.made(SECRET);
                fs::rename(new, project.host.join("read/t.txt")).expect("replace");
                for hidden in ["s.txt", "conf/key"] {
                    fs::remove_file(project.at(hidden)).expect("remove");
                    fs::write(project.at(hidden), SECRET).expect("create again");
                }
                // A folder that is hidden, one with something hidden in it, one that was not there.
                project.away("secrets");
                let new = project.made_folder(&[("k", SECRET), ("other", SECRET)]);
                fs::rename(new, project.at("secrets")).expect("replace");
                project.away("conf");
                let new = project.made_folder(&[("key", SECRET), ("app.conf", "again\n")]);
                fs::rename(new, project.at("conf")).expect("replace");
                if round % 2 == 0 {
                    fs::create_dir_all(project.at("late/er")).expect("make a folder");
                    fs::write(project.at("late/er/key"), SECRET).expect("write");
                } else {
                    project.away("late");
                    project.replace("late", "a file now\n");
                    fs::remove_file(project.at("late")).expect("remove");
                }
                // A link becomes what it led to.
                project.replace("linked", SECRET);
                fs::remove_file(project.at("linked")).expect("remove");
                symlink("targets/real", project.at("linked")).expect("link");
                // What is beside keeps the init busy.
                project.replace("app.py", &format!("{round}\n"));
                if round % 8 == 0 {
                    let script = format!("grep -qx {round} {place}/app.py");
                    eventually(&sealed, "app.py in between", &script).await;
                }
            }
            fs::hard_link(project.at("s.txt"), project.at("hard.txt")).expect("link");
            eventually(&sealed, "the last app.py", &format!("grep -qx 39 {place}/app.py")).await;
            sealed.output(&["touch", "/tmp/stop"]).await;
        };
        let ((code, text), ()) = tokio::join!(reader, changes);
        assert_eq!(code, 0, "{text}");
        assert!(text.starts_with("rounds "), "{text}");

        // By name, as it is known.
        for hidden in ["s.txt", "shown-link", "conf/key", "secrets/k", "late.txt", "linked", "hard.txt"] {
            for top in [place.as_str(), "/app"] {
                let (code, text) = sealed.exec(&["cat", &format!("{top}/{hidden}")]).await;
                assert!(code != 0 || text.is_empty(), "{top}/{hidden}: {text}");
            }
        }
        sealed.shut_down().await;
        fs::remove_dir_all(&project.host).expect("clean");
    });
}

async fn eventually(sealed: &Sealed, what: &str, script: &str) {
    let begun = Instant::now();
    loop {
        let (code, text) = sealed.exec(&["sh", "-c", script]).await;
        if code == 0 {
            return println!("{what}: {} ms", begun.elapsed().as_millis());
        }
        assert!(begun.elapsed() < SOON, "{what}: not within {SOON:?}: {text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn what_is_not_hidden_follows_the_host() {
    as_everyone("seal::masks::what_is_not_hidden_follows_the_host", async |_| {
        let mut project = Project::new("follow");
        let sealed = Sealed::new("follow-seal", &project.spec()).await;
        let place = project.host.join("project").display().to_string();
        let has = |name: &str, content: &str| {
            format!("grep -qx '{content}' {place}/{name} && grep -qx '{content}' /app/{name}")
        };
        let look = async |what: &str, script: String| eventually(&sealed, what, &script).await;

        look("what was there", has("app.py", "first")).await;
        project.replace("app.py", "second");
        look("a file replaced by rename", has("app.py", "second")).await;
        fs::write(project.at("app.py"), "third").expect("write");
        look("a file written in place", has("app.py", "third")).await;
        fs::write(project.at("new.py"), "new").expect("write");
        look("a new file", has("new.py", "new")).await;
        fs::remove_file(project.at("new.py")).expect("remove");
        look("a removed file", format!("! test -e {place}/new.py && ! test -e /app/new.py")).await;
        project.replace("conf/app.conf", "second");
        look("a file beside a hidden one, deeper", has("conf/app.conf", "second")).await;
        project.away("conf");
        look("a folder that went", format!("! test -e {place}/conf && ! test -e /app/conf")).await;
        let new = project.made_folder(&[("key", SECRET), ("app.conf", "third")]);
        fs::rename(new, project.at("conf")).expect("replace");
        look("a folder that came", has("conf/app.conf", "third")).await;
        let new = project.made_folder(&[("main.py", "second")]);
        project.away("src");
        fs::rename(new, project.at("src")).expect("replace");
        look("a folder replaced", has("src/main.py", "second")).await;
        fs::write(project.at("src/deep.py"), "deep").expect("write");
        look("a file in a folder without hidden ones", has("src/deep.py", "deep")).await;
        project.away("src");
        project.replace("src", "a file");
        look("a file in place of a folder", has("src", "a file")).await;
        fs::remove_file(project.at("shown-link")).expect("remove");
        symlink("app.py", project.at("shown-link")).expect("link");
        look("a link that leads elsewhere", has("shown-link", "third")).await;

        sealed.output(&["sh", "-c", "echo written >>/app/app.py && mkdir -p /app/conf"]).await;
        assert_eq!(fs::read_to_string(project.at("app.py")).expect("read"), "thirdwritten\n");
        for refused in ["echo x >/app/made-inside", "rm /app/app.py"] {
            let (code, text) = sealed.exec(&["sh", "-c", refused]).await;
            assert_ne!(code, 0, "{refused}: {text}");
        }
        sealed.shut_down().await;
        fs::remove_dir_all(&project.host).expect("clean");
    });
}

/// As tools that start a server again when a file changes: events of a folder, until one names the file.
const WATCHER: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(0)
assert libc.inotify_add_watch(fd, sys.argv[1].encode(), 0x2 | 0x8 | 0x80 | 0x100 | 0x200) >= 0
open("/tmp/watching", "w").close()
while True:
    events, at = os.read(fd, 4096), 0
    while at < len(events):
        _, mask, _, length = struct.unpack_from("iIII", events, at)
        name = events[at + 16:at + 16 + length].rstrip(b"\0").decode()
        at += 16 + length
        if name == "app.py" and mask & 0x8:
            print(open(os.path.join(sys.argv[1], name)).read(), end="")
            sys.exit(0)
"#;

#[test]
fn who_watches_a_folder_inside_is_told_of_changes() {
    as_everyone("seal::masks::who_watches_a_folder_inside_is_told_of_changes", async |_| {
        let mut project = Project::new("watch");
        let mut spec = project.spec();
        spec.files.push(script("watcher.py", WATCHER));
        let sealed = Sealed::new("watch-seal", &spec).await;
        let place = project.host.join("project").display().to_string();
        for in_place in [true, false] {
            let arguments = ["python3", "/watcher.py", &place];
            let watcher = sealed.exec(&arguments);
            let change = async {
                eventually(&sealed, "a watch", "test -e /tmp/watching && rm /tmp/watching").await;
                if in_place {
                    fs::write(project.at("app.py"), "in place").expect("write");
                } else {
                    project.replace("app.py", "replaced");
                }
            };
            let ((code, text), ()) = tokio::join!(watcher, change);
            assert_eq!((code, text.as_str()), (0, if in_place { "in place" } else { "replaced" }));
        }
        sealed.shut_down().await;
        fs::remove_dir_all(&project.host).expect("clean");
    });
}

#[test]
fn what_the_seal_mounts_itself_stays_when_the_host_replaces_the_place() {
    as_everyone(
        "seal::masks::what_the_seal_mounts_itself_stays_when_the_host_replaces_the_place",
        async |_| {
            let mut project = Project::new("own");
            let place = project.host.join("project").display().to_string();
            let mut spec = project.spec();
            // Its own secret where the hidden file lies, and where a file of the host's lies; a volume on a folder.
            spec.files.push(script(&format!("{}/s.txt", &place[1..]), "its own"));
            spec.files.push(script(&format!("{}/app.py", &place[1..]), "its own"));
            spec.mounts.push(SealMount {
                source: project.host.join("read"),
                target: project.at("src"),
                read_only: true,
                masked: None,
                covered: Vec::new(),
            });
            let sealed = Sealed::new("own-seal", &spec).await;
            project.replace("s.txt", SECRET);
            project.replace("app.py", "another");
            project.away("src");
            fs::create_dir(project.at("src")).expect("make a folder");
            fs::write(project.at("mark"), "here").expect("write");
            eventually(&sealed, "a new file", &format!("grep -q here {place}/mark")).await;
            for (path, content) in [("s.txt", "its own"), ("app.py", "its own"), ("src/notes", "first\n")] {
                assert_eq!(sealed.output(&["cat", &format!("{place}/{path}")]).await, content, "{path}");
            }
            // The other place that shows the folder is renewed by itself.
            eventually(&sealed, "a replaced file", "grep -q another /app/app.py").await;
            sealed.shut_down().await;
            fs::remove_dir_all(&project.host).expect("clean");
        },
    );
}

#[test]
fn a_folder_with_too_many_entries_beside_hidden_ones() {
    as_everyone("seal::masks::a_folder_with_too_many_entries_beside_hidden_ones", async |_| {
        let project = Project::new("many");
        let mut spec = project.spec();
        spec.mounts.clear();
        let sealed = Sealed::new("many-seal", &spec).await;
        for count in 0..4200 {
            fs::write(project.at(&format!("entry{count}")), "").expect("write");
        }
        fs::rename(project.at("s.txt"), project.host.join("beside/s.txt")).expect("move");
        fs::write(project.at("s.txt"), SECRET).expect("write");
        let log = sealed.folder.join("log");
        let begun = Instant::now();
        let line = loop {
            let text = fs::read_to_string(&log).expect("the log");
            if let Some(line) = text.lines().find(|line| line.contains("more than")) {
                break line.to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(40), "nothing is told: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(line.contains("more than 4096 entries in a folder in which something is hidden"), "{line}");
        let place = project.host.join("project").display().to_string();
        let script = format!("! grep -q . {place}/s.txt && grep -qx first {place}/app.py");
        sealed.output(&["sh", "-c", &script]).await;
        sealed.shut_down().await;

        let error = Sealed::try_new("many-again", &spec).await.err().expect("refused");
        assert!(error.contains("more than 4096 entries in a folder in which something is hidden"), "{error}");
        fs::remove_dir_all(&project.host).expect("clean");
    });
}
