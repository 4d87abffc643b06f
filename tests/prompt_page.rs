//! The page of `jetbench prompt` in a real browser: what is clicked and drawn there is what `--prompts` reads. Without chromium on the PATH
//! this says so and passes.

use jetbench::results::record::PromptRecord;
use jetbench::results::store;

use crate::workshop::{Workshop, browser, text, tree};

/// Clicks, a click outside and a box, as a hand makes them; then the file that is saved goes into the page.
const HAND: &str = r#"
<script>
// The page's own picture has loaded by then; all of this happens in that event, after which the browser prints the page.
addEventListener("load", () => {
  // A blob's content could only be read later, and a browser without a screen hangs over one download in ten on a busy machine.
  HTMLAnchorElement.prototype.click = () => {};
  window.Blob = function (parts) { this.content = parts.join(""); };
  const canvas = document.getElementById("frame"), shown = canvas.getBoundingClientRect();
  const point = (kind, x, y, more) => canvas.dispatchEvent(new PointerEvent(kind, {
    clientX: shown.left + (x + 0.5) * shown.width / canvas.width, clientY: shown.top + (y + 0.5) * shown.height / canvas.height,
    bubbles: true, pointerId: 1, ...more }));
  const press = id => document.getElementById(id).click();
  point("pointerup", 20, 16);
  point("pointerup", 2, 3, { button: 2 });
  point("pointerup", 40, 30);
  press("undo");
  press("box");
  point("pointerdown", 30, 4); point("pointerup", 44, 20);   // refused: object 1 has clicks
  press("next");
  point("pointerdown", 44, 20); point("pointermove", 35, 6); point("pointerup", 30, 4);
  URL.createObjectURL = blob => {
    const place = document.createElement("pre");
    place.id = "saved";
    place.textContent = blob.content;
    document.body.append(place);
    return "data:,";
  };
  press("save");
});
</script>
"#;

fn shop() -> Workshop {
    let shop = Workshop::new(1, 24);
    let clip = shop.path("clip");
    std::fs::create_dir(&clip).unwrap();
    let frames = shop.path("data/JPEGImages_24fps/synth_000");
    for file in tree(&frames) {
        std::fs::copy(frames.join(&file), clip.join(&file)).unwrap();
    }
    shop.pack("calm", "motion = [1.0, 0.0]");
    shop
}

#[test]
fn a_file_that_is_no_page_of_ours_stays() {
    let shop = shop();
    std::fs::write(shop.path("precious.png"), [0x89, b'P', 0xff, 0]).unwrap();
    std::os::unix::fs::symlink(shop.path("precious.png"), shop.path("link.html")).unwrap();
    for out in ["precious.png", "link.html"] {
        let said = shop.output(&["prompt", "clip", "--out", out]);
        assert!(said.status.code() == Some(2) && text(&said.stderr).contains("choose another with --out"), "{out}");
    }
    assert_eq!(std::fs::read(shop.path("precious.png")).unwrap(), [0x89, b'P', 0xff, 0]);
}

#[test]
fn what_is_clicked_in_a_browser_is_what_is_tracked() {
    let shop = shop();
    let said = shop.expect(0, &["prompt", "clip"]);
    assert!(said.contains("clip.prompts.html") && said.contains("--data clip --prompts clip.prompts.json"), "{said}");
    let page = std::fs::read_to_string(shop.path("clip.prompts.html")).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs no network");
    std::fs::write(shop.path("played.html"), page.replace("</body>", &format!("{HAND}</body>"))).unwrap();
    let dom = match browser::shown(&shop.path("played.html"), &["--window-size=1000,800"]) {
        Ok(dom) => dom,
        Err(reason) => return eprintln!("skipped what_is_clicked_in_a_browser_is_what_is_tracked: {reason}"),
    };
    let saved = dom.split("<pre id=\"saved\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let saved = saved.unwrap_or_else(|| panic!("nothing was saved:\n{dom}"));
    std::fs::write(shop.path("clip.prompts.json"), saved).unwrap();
    shop.expect(
        0,
        &["--models", "calm_points", "--dtype", "fp32", "--data", "clip", "--prompts", "clip.prompts.json", "--quiet"],
    );
    let record = store::load(&shop.runs("results")[0]).unwrap();
    let prompts: Vec<_> =
        record.cells[0].sequences[0].objects.iter().map(|o| (o.object.as_str(), o.prompt.clone().unwrap())).collect();
    let PromptRecord::Points { clicks } = &prompts[0].1 else { panic!("{prompts:?}") };
    let clicks: Vec<_> = clicks.iter().map(|c| (c.x, c.y, c.positive)).collect();
    assert_eq!((prompts[0].0, clicks), ("1", vec![(20.0, 16.0, true), (2.0, 3.0, false)]));
    assert_eq!((prompts[1].0, &prompts[1].1), ("2", &PromptRecord::Bbox { corners: [30.0, 4.0, 44.0, 20.0] }));
}

#[test]
fn a_page_names_its_frame_and_replaces_nothing_else() {
    let shop = shop();
    shop.expect(0, &["prompt", "data", "--frame", "3", "--out", "p.html"]);
    let page = std::fs::read_to_string(shop.path("p.html")).unwrap();
    assert!(page.contains("\"frame\":3") && page.contains("\"video\":\"synth_000\"") && page.contains("\"width\":48"));
    shop.expect(0, &["prompt", "clip", "--out", "p.html"]);
    std::fs::write(shop.path("mine.html"), "<p>mine</p>").unwrap();
    for (args, part) in [
        (&["prompt", "clip", "--out", "mine.html"][..], "no page of `jetbench prompt`"),
        (&["prompt", "clip", "--frame", "24"], "the video has 24 frames"),
        (&["prompt", "clip", "--video", "bear"], "there is no video `bear`"),
        (&["prompt", "packs"], "no video and no JPEG or PNG frames"),
    ] {
        let output = shop.output(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(std::fs::read_to_string(shop.path("mine.html")).unwrap(), "<p>mine</p>");
}
