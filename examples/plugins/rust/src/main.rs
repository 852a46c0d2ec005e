//! Drop-cold keeps the readings that are worth storing: those of at least MIN degrees.
//!
//!     cargo build --release --target wasm32-wasip1
//!     rivulet plugin push drop-cold target/wasm32-wasip1/release/drop-cold.wasm
//!     rivulet plugin attach drop-cold --topic mqtt --set MIN=20
//!
//! A record without a number "temp" makes it return an error, which ends this instance of the plugin; the broker does with
//! that record what on_error says and carries on.
use redpanda_transform_sdk::*;

fn main() {
    let min = match std::env::var("MIN") {
        Ok(s) => s.parse().expect("MIN is no number"),
        Err(_) => 20.0,
    };
    on_record_written(|event, writer| drop_cold(event, writer, min));
}

#[derive(Debug)]
#[allow(dead_code)] // the fields are printed by the SDK
enum Failure {
    NoTemp,
    Write(WriteError),
}

fn drop_cold(event: WriteEvent, writer: &mut RecordWriter, min: f64) -> Result<(), Failure> {
    let value = event.record.value().unwrap_or_default();
    let temp = number(value, b"\"temp\"").ok_or(Failure::NoTemp)?;
    if temp < min {
        return Ok(());
    }
    writer.write(event.record).map_err(Failure::Write)
}

fn number(json: &[u8], field: &[u8]) -> Option<f64> {
    let at = json.windows(field.len()).position(|w| w == field)?;
    let text = std::str::from_utf8(&json[at + field.len()..]).ok()?;
    let text = text.trim_start_matches(|c| c == ':' || c == ' ');
    let end = text.find(|c| c == ',' || c == '}' || c == ' ').unwrap_or(text.len());
    text[..end].parse().ok()
}
