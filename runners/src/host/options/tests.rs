use super::*;
use crate::host::settings::NextFrame;

const GPU: Device = Device::TensorRt(0);

#[test]
fn values_are_checked_and_translated() {
    let options = asked(&[
        ("trt_workspace_mib", "512"),
        ("trt_builder_optimization_level", "3"),
        ("tf32", "true"),
        ("cudnn_conv_algo_search", "heuristic"),
        ("cuda_arena_extend_strategy", "as_requested"),
    ]);
    let given = SessionSettings::new(GPU, Dtype::Fp32, &options).unwrap().provider_options;
    assert_eq!(given.tensorrt["trt_max_workspace_size"], (512u64 << 20).to_string());
    assert_eq!(given.cuda["cudnn_conv_algo_search"], "HEURISTIC");
    assert_eq!(given.cuda["arena_extend_strategy"], "kSameAsRequested");
    assert!(given.tf32());
    for (name, value, expected) in [
        ("trt_workspace_mib", "0", "a number from 1 to 1048576"),
        ("trt_builder_optimization_level", "6", "a number from 0 to 5"),
        ("tf32", "yes", "true or false"),
        ("cudnn_conv_algo_search", "best", "exhaustive, heuristic or default"),
        ("trt_tactic_sources", "", "a text"),
        ("memory_threshold", "1.5", "a number from 0 to 1"),
        ("memory_threshold", "nan", "a number from 0 to 1"),
        ("objects", "some", "batch, loop or a number"),
        ("objects", "0", "batch, loop or a number from 1 to 65536"),
    ] {
        assert_eq!(find(name).unwrap().check(value).unwrap_err().expected, expected);
    }
}

/// Every value that the lists show sets something or is passed on; a default that is a value is what holds without it.
#[test]
fn every_value_of_every_option_is_taken() {
    let new = |device, options: &Options| SessionSettings::new(device, Dtype::Fp32, options).unwrap();
    for option in TABLE {
        let device = match option.devices[0] {
            DeviceKind::Cpu => Device::Cpu,
            DeviceKind::Cuda => Device::Cuda(0),
            DeviceKind::TensorRt => GPU,
            DeviceKind::WebGpu => Device::WebGpu(0),
            DeviceKind::Plugin => "toy:0".parse().unwrap(),
        };
        // Not the least: `objects=1` is `objects=loop`.
        let numbers = option.range().map(|(_, high)| [(high - 1).to_string(), high.to_string()]);
        let mut values: Vec<String> = option.words().iter().map(ToString::to_string).collect();
        values.extend(numbers.into_iter().flatten());
        values.extend(values.is_empty().then(|| "text".to_string()));
        let mut seen = Vec::new();
        for value in values {
            let mut settings = new(device, &Options::default());
            option.set(&mut settings, &value).unwrap();
            assert!(!seen.contains(&settings), "{}={value} sets what another value sets", option.name);
            let unchanged = settings == new(device, &Options::default());
            let plain = option.words().contains(&option.default) || option.default.parse::<f64>().is_ok();
            if plain && option.provider_key().is_none() {
                assert_eq!(unchanged, option.default == value, "{}={value}", option.name);
            } else if unchanged {
                // `on for small input in offline, else off`
                let mut mentioned = option.default.split([' ', ',']);
                assert!(mentioned.any(|word| word == value), "{}={value}", option.name);
            }
            seen.push(settings);
        }
    }
}

#[test]
fn every_option_is_offered_or_refused_and_never_both() {
    let refused = refused();
    for device in [Device::Cpu, Device::Cuda(0), GPU, Device::WebGpu(0)] {
        let names = names("sam2", device, |_| true);
        for (i, name) in names.iter().enumerate() {
            assert!(!refused.contains_key(name), "{name} is offered and refused");
            assert!(!names[..i].contains(name), "{name} is offered twice");
        }
    }
    assert!(refused["trt_dla_enable"].contains("LayerNormalization"));
    assert!(names("sam2", GPU, |_| true).contains(&"trt_workspace_mib".to_string()));
    let without = names("sam2export", Device::Cpu, |need| need == PackNeed::Nothing);
    assert!(without.contains(&STAGE_TIMES.to_string()));
    assert!([OBJECTS, FORM, PIPELINE, "tf32"].iter().all(|name| !without.contains(&name.to_string())));
}

fn asked(extra: &[(&str, &str)]) -> Options {
    let extra = extra.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Options { extra, ..Options::default() }
}

#[test]
fn options_are_checked_against_the_device() {
    let new = |device, extra: &[(&str, &str)]| SessionSettings::new(device, Dtype::Fp32, &asked(extra));
    assert!(new(Device::Cpu, &[("optimization", "basic")]).is_ok());
    assert!(new(Device::Cuda(0), &[("tf32", "true")]).unwrap().provider_options.tf32());
    assert!(new(Device::Cuda(0), &[("cuda_graph", "true"), ("cuda_prefer_nhwc", "false")]).unwrap().cuda_graph);
    let engines = new(Device::TensorRt(0), &[("max_objects", "4"), ("opt_objects", "2")]).unwrap();
    assert_eq!((engines.together(), engines.engine_objects), (4, [4, 2]));
    for (device, name, value) in [
        (Device::Cpu, "tf32", "true"),
        (Device::Cpu, "optimization", "most"),
        (Device::Cuda(0), "trt_workspace_mib", "1"),
        (Device::TensorRt(0), "trt_workspace_mib", "0"),
        (Device::TensorRt(0), "opt_objects", "9"),
        (Device::TensorRt(0), "trt_dla_enable", "true"),
        (Device::Cpu, "cpu_arena", "1"),
        (Device::Cpu, "objects", "0"),
        (Device::Cpu, "speed", "9"),
        (Device::TensorRt(0), "attention", "fused"),
        (Device::TensorRt(0), "attention", "onnx"),
        (Device::Cuda(0), "attention", "onnx"),
        (Device::Cpu, "attention", "15"),
    ] {
        let text = new(device, &[(name, value)]).unwrap_err().to_string();
        assert!(text.contains(name), "{text}");
        assert!(text.contains(&format!("on {device}")) || text.contains("expected "), "{text}");
    }
    let attention = |device, dtype, how: &str| {
        let mut options = Options::default();
        options.extra.insert("attention".into(), how.into());
        SessionSettings::new(device, dtype, &options).map_err(|e| e.to_string())
    };
    for (device, dtype, how, expected) in [
        (Device::TensorRt(0), Dtype::Bf16, "fused", "whole, onnx or a number in bf16 on tensorrt:0"),
        (Device::TensorRt(0), Dtype::Int8, "onnx", "whole or a number in int8 on tensorrt:0"),
        (Device::Cuda(0), Dtype::Fp16, "onnx", "whole, fused or a number in fp16 on cuda:0"),
        (Device::Cpu, Dtype::Fp16, "fused", "whole, onnx or a number in fp16 on cpu"),
    ] {
        let text = attention(device, dtype, how).unwrap_err();
        assert!(text.contains(expected), "{text}");
    }
    for (device, dtype) in [(Device::TensorRt(0), Dtype::Fp16), (Device::Cpu, Dtype::Fp32), (Device::Cpu, Dtype::Bf16)]
    {
        let spread = device == Device::Cpu;
        assert_eq!(attention(device, dtype, "onnx").unwrap().attention, Attention::Standard { spread });
    }
    assert_eq!(pins(Some(1), &[4, 5]).unwrap(), [0usize; 0]);
    assert_eq!(pins(Some(3), &[4, 5, 7]).unwrap(), [5, 7]);
    assert!(pins(Some(3), &[4, 5]).unwrap_err().contains("2 processors"));
    assert!(pins(None, &[4, 5]).unwrap_err().contains("--threads"));
    let mut four = SessionSettings::new(Device::Cpu, Dtype::Fp32, &Options::default()).unwrap();
    (four.thread_pool.threads, four.thread_pool.pinned, four.pipeline) = (Some(4), vec![1, 2, 3], true);
    let [ahead, rest] = four.split().unwrap();
    let pinned = (ahead.thread_pool.pinned, rest.thread_pool.pinned);
    assert_eq!(pinned, (vec![1], vec![3]), "one thread beside the calling one on either side");
    assert_eq!((ahead.one_pool, rest.one_pool), (false, true), "the sides must not wait for each other's threads");
    for (device, graph, expected) in [
        (Device::Cuda(0), "false", NextFrame::Copied),
        (Device::Cuda(0), "true", NextFrame::Resized),
        (GPU, "false", NextFrame::Copied),
    ] {
        let captured = Some(("cuda_graph", graph)).filter(|_| device != GPU);
        let given = |value| asked(&captured.into_iter().chain([("pipeline", value)]).collect::<Vec<_>>());
        let settings = |value| SessionSettings::new(device, Dtype::Fp32, &given(value)).unwrap();
        assert_eq!((settings("on").next_frame(), settings("off").next_frame()), (Some(expected), None), "{device}");
        assert!(settings("on").split().is_none(), "graphs of a device share no threads out");
    }
    let threads = Options { threads: Some(0), ..Options::default() };
    assert!(SessionSettings::new(Device::Cpu, Dtype::Fp32, &threads).is_err());
    let threads = Options { threads: Some(2), ..Options::default() };
    assert!(SessionSettings::new(Device::Cuda(0), Dtype::Fp32, &threads).is_err());
    assert!(SessionSettings::new(Device::Cpu, Dtype::Fp32, &threads).unwrap().notes().contains(&"threads: 2".into()));
}
