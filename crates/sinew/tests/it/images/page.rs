//! `docs/air-gapped.md`, step by step: what stands behind each `$` is typed, and what stands below it must come out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bench::Bench;
use super::serves;
use crate::lifetimes::free_port;

#[test]
fn the_way_through_an_air_gap_is_as_the_page_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/air-gapped.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let mut bench = Bench::new("shop");
    let port = free_port();
    write_shop(&bench, port);
    bench.push("shop/web:1", &[("VERSION", "one")]);
    let mut reader = Reader::new(&bench);

    reader.follow(&page, "## Where there is a network");
    bench.push("shop/web:1", &[("VERSION", "two")]);
    // The next version, before the network ends.
    fs::remove_file(bench.sandbox.folder.join("sinew.lock")).expect("a new lock is made");
    bench.sinew(&["bundle", "save", "shop-2.bundle", "--sign", "release.pem"]).ok();
    bench.podman(&["rmi", "-fa"]);
    bench.stop_registry();

    let mut reader = Reader::new(&bench);
    reader.follow(&page, "## At the site");
    serves(port, "one");
    let mut reader = Reader::new(&bench);
    reader.follow(&page, "## The next version");
    serves(port, "two");
    let mut reader = Reader::new(&bench);
    reader.follow(&page, "## The file");
    bench.sinew(&["down"]).ok();
}

fn write_shop(bench: &Bench, port: u16) {
    let image = bench.reference("shop/web:1");
    bench.sandbox.write(
        "compose.yaml",
        &format!(
            "name: shop\nservices:\n  web:\n    image: {image}\n    ports: [\"{port}:8000\"]\n    \
             stop_grace_period: 5s\n    configs: [settings]\n    secrets: [token]\n    environment: [\"MODE=${{MODE}}\"]\n    \
             x-sinew: {{ health: {{ http: {{ port: 8000, path: /health }} }}, protocol: {{ 8000: http }} }}\n\
             configs: {{ settings: {{ file: ./settings.ini }} }}\nsecrets: {{ token: {{ file: ./secrets/token.txt }} }}\n"
        ),
    );
    bench.sandbox.write(".env", "MODE=on\n");
    bench.sandbox.write("settings.ini", "a=1\n");
    bench.sandbox.write("secrets/token.txt", "a secret\n");
    for folder in ["srv", "media"] {
        fs::create_dir(bench.sandbox.home().join(folder)).expect("make a folder");
    }
    fs::write(bench.sandbox.home().join("media/token.txt"), "a secret\n").expect("write a secret");
}

struct Reader<'a> {
    bench: &'a Bench,
    /// The page's places and the test's.
    places: [(String, String); 3],
}

impl<'a> Reader<'a> {
    fn new(bench: &'a Bench) -> Self {
        let elsewhere = bench.sandbox.home();
        let elsewhere = elsewhere.display();
        let image = bench.reference("");
        let places = [
            ("/srv/".to_owned(), format!("{elsewhere}/srv/")),
            ("/media/usb/".to_owned(), format!("{elsewhere}/media/")),
            ("registry.example/".to_owned(), image),
        ];
        Self { bench, places }
    }

    /// Types the commands of the first block of a section.
    fn follow(&mut self, page: &str, section: &str) {
        let (_, section) = page.split_once(section).expect("the section is there");
        let (_, block) = section.split_once("```\n$ ").expect("it has commands");
        let (block, _) = block.split_once("\n```").expect("they end");
        for step in block.split("\n$ ") {
            let (typed, expected) = step.split_once('\n').unwrap_or((step, ""));
            let typed = typed.split("  #").next().unwrap_or_default().trim();
            if typed == "cd shop" {
                continue;
            }
            let said = self.type_in(typed);
            // Nothing on the page: it need not be silent.
            if !expected.is_empty() {
                assert_eq!(shape(&said), shape(&self.here(expected)), "{typed}\n{said}");
            }
        }
    }

    fn here(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (page, here)| text.replace(page.as_str(), here))
    }

    fn type_in(&self, typed: &str) -> String {
        let typed = self.here(typed);
        let words: Vec<&str> = typed.split_whitespace().collect();
        if words[0] == "sinew" {
            return self.bench.sinew(&words[1..]).ok().stdout;
        }
        let folder: &PathBuf = &self.bench.sandbox.folder;
        let output = Command::new("sh").args(["-ec", &typed]).current_dir(folder).output().expect("run sh");
        assert!(output.status.success(), "{typed}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The words, without what is another one each time: sizes, keys and ids.
fn shape(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let bare = word.trim_end_matches(',');
        let is_id = bare.len() == 12 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_size = bare.contains('.') && bare.parse::<f64>().is_ok();
        let is_unit = matches!(bare, "KiB" | "MiB");
        if is_id || is_size || is_unit { "…".to_owned() } else { word.to_owned() }
    };
    text.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")).collect()
}
