//! One line of `tegrastats` as named quantities. The line's form differs between boards, releases and users, so every
//! field is optional, a field that is not understood is kept as such, and no byte sequence whatever makes the parser
//! panic. sysfs is the better source (its times are finer); this one is the fallback and the cross-check.

/// What one line says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// `MM-DD-YYYY HH:MM:SS`, as written; its resolution is one second.
    pub time: Option<String>,
    /// Quantities with their units in the name, in the order of the line. What is off or gated has none.
    pub values: Vec<(String, f64)>,
    /// Words that were not understood.
    pub unknown: Vec<String>,
}

impl Line {
    /// The value of a quantity.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }

    fn put(&mut self, name: String, value: Option<f64>) -> Option<()> {
        self.values.push((name, value?));
        Some(())
    }
}

/// Longest line that is looked at; the real ones have less than a thousand bytes.
const LONGEST: usize = 1 << 16;

/// Parses one line; bytes that are no UTF-8 become words that are not understood.
pub fn parse(bytes: &[u8]) -> Line {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let words = words(&text);
    let mut line = Line::default();
    let mut at = 0;
    if let [date, time, ..] = words[..]
        && date.len() == 10
        && time.len() == 8
        && digits_with(date, '-')
        && digits_with(time, ':')
    {
        line.time = Some(format!("{date} {time}"));
        at = 2;
    }
    while at < words.len() {
        let (word, next) = (words[at], words.get(at + 1).copied().unwrap_or_default());
        let mut taken = Line::default();
        let used = field(word, next, words.get(at + 2).copied().unwrap_or_default(), &mut taken);
        match used {
            Some(used) => {
                line.values.extend(taken.values);
                at += used;
            }
            None => {
                line.unknown.push(word.to_string());
                at += 1;
            }
        }
    }
    line
}

/// Words, where what stands in round or square brackets is one word.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut open) = (None, None);
    for (i, c) in text.char_indices() {
        match (c, open) {
            ('(', None) => open = Some(')'),
            ('[', None) => open = Some(']'),
            (c, Some(close)) if c == close => open = None,
            _ => {}
        }
        match (c.is_whitespace() && open.is_none(), start) {
            (true, Some(from)) => {
                words.push(&text[from..i]);
                start = None;
            }
            (false, None) => start = Some(i),
            _ => {}
        }
    }
    words.extend(start.map(|from| &text[from..]));
    words
}

fn digits_with(word: &str, mark: char) -> bool {
    word.chars().all(|c| c.is_ascii_digit() || c == mark)
}

/// A finite number.
fn number(word: &str) -> Option<f64> {
    word.parse::<f64>().ok().filter(|v| v.is_finite())
}

/// One field that begins at `word`; gives how many words it took.
fn field(word: &str, next: &str, after: &str, line: &mut Line) -> Option<usize> {
    match word {
        "RAM" | "SWAP" | "IRAM" => memory(word, next, after, line),
        "CPU" | "cpu" if next.starts_with('[') => {
            let inner = next.strip_prefix('[')?.strip_suffix(']')?;
            for (n, core) in inner.split(',').enumerate() {
                if core.trim() != "off" {
                    let (load, clock) = load_at_clock(core).filter(|(load, _)| load.is_some())?;
                    line.put(format!("cpu{n}_load_percent"), load);
                    line.put(format!("cpu{n}_mhz"), clock);
                }
            }
            Some(2)
        }
        "EMC_FREQ" | "EMC" => {
            let (load, clock, used) = marked(next, after)?;
            line.put("emc_percent".into(), load);
            line.put("emc_mhz".into(), clock);
            Some(used)
        }
        _ if word.starts_with("GR3D") => {
            let (load, clock, used) = marked(next, after)?;
            let index = word.strip_prefix("GR3D")?.split('_').next()?;
            line.put(format!("gpu{index}_load_percent"), load);
            line.put(format!("gpu{index}_mhz"), clock);
            Some(used)
        }
        _ if word.contains('@') => zone(word, line),
        _ if name(word) && next == "off" => Some(2),
        _ if name(word) && (next.contains("mW") || next.contains('/')) => rail(word, next, line),
        _ if name(word) => {
            // An engine: its clock alone, or load and clock. A number with a unit of its own behind it is no clock.
            let alone = || number(next).filter(|_| !after.starts_with(UNITS)).map(|clock| (None, Some(clock), 2));
            let (load, clock, used) = marked(next, after).or_else(alone)?;
            let engine = word.strip_suffix("_FREQ").unwrap_or(word).to_lowercase();
            line.put(format!("{engine}_load_percent"), load);
            line.put(format!("{engine}_mhz"), clock);
            Some(used)
        }
        _ => None,
    }
}

/// How a unit begins that stands behind a number and a space.
const UNITS: [char; 3] = ['%', '@', 'M'];

/// Load and clock of a field that says which is which, and how many words it takes with its name: `12%@[1300]`, also as `12 %@[1300, 1300]`.
fn marked(next: &str, after: &str) -> Option<(Option<f64>, Option<f64>, usize)> {
    if next.contains(['%', '@']) {
        let (load, clock) = load_at_clock(next)?;
        return Some((load, clock, 2));
    }
    let whole = after.starts_with('%').then(|| format!("{next}{after}"))?;
    let (load, clock) = load_at_clock(&whole)?;
    Some((load, clock, 3))
}

fn name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `RAM 3645/7620MB (lfb 63x4MB)`, `SWAP 236/3810MB (cached 0MB)`.
fn memory(word: &str, next: &str, after: &str, line: &mut Line) -> Option<usize> {
    let (used, total) = next.split_once('/')?;
    let end = total.find(|c: char| c.is_ascii_alphabetic())?;
    let (total, unit) = total.split_at(end);
    let scale = scale(unit)?;
    let kind = word.to_lowercase();
    line.put(format!("{kind}_used_mib"), number(used).map(|v| v * scale))?;
    line.put(format!("{kind}_total_mib"), number(total).map(|v| v * scale))?;
    let Some(inner) = after.strip_prefix('(').and_then(|a| a.strip_suffix(')')) else { return Some(2) };
    let (what, size) = inner.split_once(' ').unwrap_or((inner, ""));
    match what {
        // Largest free block: how many, how large.
        "lfb" => {
            let (count, size) = size.split_once('x').unwrap_or(("1", size));
            let Some((count, size)) = number(count).zip(sized(size)) else { return Some(2) };
            line.put(format!("{kind}_largest_free_blocks"), Some(count));
            line.put(format!("{kind}_largest_free_block_mib"), Some(size));
        }
        "cached" => {
            let Some(size) = sized(size) else { return Some(2) };
            line.put(format!("{kind}_cached_mib"), Some(size));
        }
        _ => return Some(2),
    }
    Some(3)
}

fn scale(unit: &str) -> Option<f64> {
    match unit {
        "GB" => Some(1024.0),
        "MB" => Some(1.0),
        "kB" | "KB" => Some(1.0 / 1024.0),
        _ => None,
    }
}

/// `4MB` in MiB.
fn sized(word: &str) -> Option<f64> {
    let end = word.find(|c: char| c.is_ascii_alphabetic())?;
    Some(number(word.get(..end)?)? * scale(word.get(end..)?)?)
}

/// `23%@2201`, `0%`, `0%@[305]`, `12%@[1300,1300]`, `@[1000,1000]`, `729`: load in percent and clock in MHz. Of several
/// clocks the highest counts.
fn load_at_clock(word: &str) -> Option<(Option<f64>, Option<f64>)> {
    let (load, clock) = match word.split_once('@') {
        Some((load, clock)) => (load, Some(clock)),
        None if word.ends_with('%') => (word, None),
        None => ("", Some(word)),
    };
    let load = match load {
        "" => None,
        load => Some(number(load.strip_suffix('%')?).filter(|load| (0.0..=100.0).contains(load))?),
    };
    let clock = match clock {
        None => None,
        Some(list) if list.starts_with('[') => {
            let inner = list.strip_prefix('[')?.strip_suffix(']')?;
            let clocks: Option<Vec<f64>> = inner.split(',').map(|c| number(c.trim())).collect();
            Some(clocks?.into_iter().max_by(f64::total_cmp)?)
        }
        Some(one) => Some(number(one)?),
    };
    (clock.is_none_or(|mhz| mhz >= 0.0) && (load.is_some() || clock.is_some())).then_some((load, clock))
}

/// `gpu@47.6C`, `cpu@52.9C/52.9C`: the first is now. A gated zone reads as -256 and has no value.
fn zone(word: &str, line: &mut Line) -> Option<usize> {
    let (zone, temperature) = word.split_once('@')?;
    let all: Option<Vec<f64>> = temperature.split('/').map(|part| number(part.strip_suffix('C')?)).collect();
    let celsius = *all?.first()?;
    if zone.is_empty() {
        return None;
    }
    if (-40.0..200.0).contains(&celsius) {
        line.put(format!("temp_{zone}_celsius"), Some(celsius));
    }
    Some(1)
}

/// `VDD_IN 2957mW/2957mW`, `POM_5V_IN 2957/2957`: now, then tegrastats' own average, then sometimes a third. Only what is
/// measured now is taken: the average's window is not documented. `NC` is a channel without a load.
fn rail(word: &str, next: &str, line: &mut Line) -> Option<usize> {
    let unit = if next.contains("mW") { "mW" } else { "" };
    let all: Option<Vec<f64>> = next.split('/').map(|part| number(part.strip_suffix(unit)?)).collect();
    let now = *all?.first()?;
    if word != "NC" {
        line.put(format!("{word}_w"), Some(now / 1000.0));
    }
    Some(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Lines written here after the documented forms; the figures are made up.
    const AGX_JP7: &str = "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,off,14%@1728] EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1295] NVENC0 off NVDEC0 off NVJPG0 off VIC off OFA off NVDLA0 off PVA0_FREQ off APE 174 cpu@52.968C/53.5C soc2@48.406C/48.406C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5100mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW";
    const NANO_JP6: &str = "09-21-2025 15:38:17 RAM 3645/7620MB (lfb 63x4MB) SWAP 236/3810MB (cached 1MB) CPU [1%@729,0%@729] EMC_FREQ 0%@204 GR3D_FREQ 0%@[305] NVDEC off APE 200 cpu@44.125C tj@44.531C VDD_IN 2957mW/2957mW VDD_CPU_GPU_CV 486mW/486mW VDD_SOC 1012mW/1012mW";
    const AGX_JP5_ROOT: &str = "01-03-2023 16:07:54 RAM 2257/30536MB (lfb 5392x4MB) SWAP 0/15268MB (cached 0MB) CPU [2%@729,off] EMC_FREQ 0%@204 GR3D_FREQ 7%@0 GR3D2_FREQ 3%@0 NVJPG1 729 VIC_FREQ 115 APE 233 CV0@-256C CPU@41.437C Tboard@29C Tdiode@30.75C GPU@-256C tj@41.656C VDD_GPU_SOC 2390mW/2390mW VIN_SYS_5V0 3522mW/3522mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW";
    const AGX_JP5_USER: &str = "01-03-2023 16:07:54 RAM 2257/30536MB (lfb 5392x4MB) CPU [2%@729] EMC_FREQ 0% GR3D_FREQ 8% CPU@41.375C Tboard@29C";
    const OLD: &str = "RAM 1903/3964MB (lfb 114x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [9%@102,off] EMC_FREQ 2%@1600 GR3D_FREQ 0%@76 APE 25 PLL@28.5C thermal@29.5C POM_5V_IN 1638/1638 POM_5V_CPU 124/124";
    // Thor (JetPack 7): a clock for each of three clusters and no load, temperatures with their peak, rails with three figures, VIN of the
    // carrier among them (forms: jetson_stats, tests of its parser).
    const THOR: &str = "10-01-2025 11:11:11 RAM 9000/125000MB (lfb 3x4MB) CPU [1%@972,off] EMC_FREQ 2%@4266 GR3D_FREQ @[1000,999,1000] NVENC0 off VIC off APE 300 tj@50C/51.5C cpu@49.25C/50C VDD_GPU 3000mW/2900mW/4100mW VIN 20000mW/20100mW/25000mW";

    #[test]
    fn boards_and_releases_are_read() {
        let agx = parse(AGX_JP7.as_bytes());
        assert!(agx.unknown.is_empty(), "{:?}", agx.unknown);
        assert_eq!(agx.time.as_deref(), Some("07-25-2026 09:08:28"));
        for (name, value) in [
            ("ram_used_mib", 20642.0),
            ("ram_total_mib", 62817.0),
            ("ram_largest_free_block_mib", 2.0),
            ("cpu0_load_percent", 23.0),
            ("cpu3_mhz", 1728.0),
            ("emc_percent", 3.0),
            ("emc_mhz", 3199.0),
            ("gpu_load_percent", 12.0),
            ("gpu_mhz", 1300.0),
            ("ape_mhz", 174.0),
            ("temp_cpu_celsius", 52.968),
            ("VDD_GPU_SOC_w", 5.139),
            ("VIN_SYS_5V0_w", 5.5),
        ] {
            assert_eq!(agx.get(name), Some(value), "{name}");
        }
        assert_eq!(
            (agx.get("cpu2_mhz"), agx.get("nvenc0_mhz"), agx.get("vic_mhz")),
            (None, None, None),
            "off is not 0"
        );

        let nano = parse(NANO_JP6.as_bytes());
        assert!(nano.unknown.is_empty(), "{:?}", nano.unknown);
        assert_eq!((nano.get("swap_used_mib"), nano.get("swap_cached_mib")), (Some(236.0), Some(1.0)));
        assert_eq!((nano.get("gpu_load_percent"), nano.get("gpu_mhz")), (Some(0.0), Some(305.0)));
        assert_eq!((nano.get("VDD_IN_w"), nano.get("temp_tj_celsius")), (Some(2.957), Some(44.531)));

        let jp5 = parse(AGX_JP5_ROOT.as_bytes());
        assert!(jp5.unknown.is_empty(), "{:?}", jp5.unknown);
        assert_eq!((jp5.get("gpu2_load_percent"), jp5.get("vic_mhz")), (Some(3.0), Some(115.0)));
        assert_eq!((jp5.get("temp_CV0_celsius"), jp5.get("temp_GPU_celsius"), jp5.get("NC_w")), (None, None, None));
        assert_eq!(jp5.get("VDDQ_VDD2_1V8AO_w"), Some(0.301));

        let user = parse(AGX_JP5_USER.as_bytes());
        assert!(user.unknown.is_empty(), "{:?}", user.unknown);
        assert_eq!((user.get("emc_percent"), user.get("emc_mhz")), (Some(0.0), None));
        assert_eq!((user.get("gpu_load_percent"), user.get("gpu_mhz")), (Some(8.0), None));
        assert!(!user.values.iter().any(|(name, _)| name.ends_with("_w")), "without root there are no rails");

        let old = parse(OLD.as_bytes());
        assert_eq!((old.get("POM_5V_IN_w"), old.get("gpu_mhz"), old.time.as_deref()), (Some(1.638), Some(76.0), None));
        let thor = parse(THOR.as_bytes());
        assert!(thor.unknown.is_empty(), "{:?}", thor.unknown);
        assert_eq!((thor.get("gpu_load_percent"), thor.get("gpu_mhz")), (None, Some(1000.0)));
        assert_eq!(
            (thor.get("VIN_w"), thor.get("VDD_GPU_w")),
            (Some(20.0), Some(3.0)),
            "now, not the average, not the peak"
        );
        assert_eq!((thor.get("temp_tj_celsius"), thor.get("emc_mhz")), (Some(50.0), Some(4266.0)));
    }

    #[test]
    fn what_is_not_understood_is_kept_and_the_rest_is_read() {
        let line = parse(b"RAM 1/x CPU [a%@1,b] HELLO world GR3D_FREQ 5%@nan \xff\xfe VDD_IN 1000mW/900mW gpu@infC");
        assert_eq!(line.values, [("VDD_IN_w".to_string(), 1.0)]);
        assert!(line.unknown.contains(&"HELLO".to_string()) && line.unknown.contains(&"gpu@infC".to_string()));
        assert_eq!(parse(b""), Line::default());
    }

    #[test]
    fn units_and_shapes_are_read_whole_or_not_at_all() {
        let spaced = parse(b"GR3D_FREQ 12 %@[1300, 1300] VIC 40 %@601 EMC_FREQ 3 % APE 174");
        assert!(spaced.unknown.is_empty(), "{:?}", spaced.unknown);
        let of = |name: &str| spaced.get(name);
        assert_eq!((of("gpu_load_percent"), of("gpu_mhz")), (Some(12.0), Some(1300.0)), "12 is no clock");
        assert_eq!((of("vic_load_percent"), of("vic_mhz"), of("ape_mhz")), (Some(40.0), Some(601.0), Some(174.0)));
        assert_eq!((of("emc_percent"), of("emc_mhz")), (Some(3.0), None));
        for odd in [
            "GR3D_FREQ 12",
            "GR3D_FREQ 12%@1300MHz",
            "GR3D_FREQ 120%@1300",
            "GR3D_FREQ 12 %@[1300, x]",
            "EMC_FREQ 2133",
            "VIC 729 MHz",
            "CPU [12]",
            "CPU [12%@x]",
            "cpu@52C/x",
            "cpu@52F",
            "VDD_IN 2957mW/2957",
            "VDD_IN 2957uW/2957mW",
            "VDD_IN 2.9W/2.9W",
        ] {
            let line = parse(odd.as_bytes());
            assert_eq!(line.values, [], "{odd}");
            assert!(!line.unknown.is_empty(), "{odd}");
        }
        assert_eq!(parse(b"RAM 1/2MB (lfb ax4MB)").values.len(), 2, "used and total, no block");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }

        #[test]
        fn no_damaged_line_makes_it_panic(
            which in 0usize..6,
            cut in 0usize..700,
            damage in proptest::collection::vec((0usize..700, any::<u8>()), 0..12),
        ) {
            let mut bytes = [AGX_JP7, NANO_JP6, AGX_JP5_ROOT, AGX_JP5_USER, OLD, THOR][which].as_bytes().to_vec();
            for (at, byte) in damage {
                let n = bytes.len();
                bytes[at % n] = byte;
            }
            let n = bytes.len();
            bytes.truncate(n - cut % n);
            for (_, value) in parse(&bytes).values {
                prop_assert!(value.is_finite());
            }
        }

        #[test]
        fn a_rail_and_a_zone_come_back(mw in 0u32..100_000, celsius in 0u32..100, clock in 1u32..3000) {
            let line = parse(format!("GR3D_FREQ 5%@{clock} gpu@{celsius}C VDD_IN {mw}mW/1mW").as_bytes());
            prop_assert_eq!(line.get("VDD_IN_w"), Some(f64::from(mw) / 1000.0));
            prop_assert_eq!(line.get("temp_gpu_celsius"), Some(f64::from(celsius)));
            prop_assert_eq!(line.get("gpu_mhz"), Some(f64::from(clock)));
        }
    }
}
