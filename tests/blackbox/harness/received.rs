//! A request as the app got it.

use std::io::BufRead;
use std::time::Instant;

#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub target: String,
    /// In their order, names as sent.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// When its last byte was read.
    pub at: Instant,
}

impl Received {
    /// Every value of that field, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        let same = self.headers.iter().filter(|(present, _)| present.eq_ignore_ascii_case(name));
        same.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The one value of a field that must come exactly once.
    pub fn header(&self, name: &str) -> String {
        let mut all = self.all(name);
        assert_eq!(all.len(), 1, "`{name}` comes {} times in {}", all.len(), self.head());
        all.swap_remove(0)
    }

    pub fn event_id(&self) -> String {
        self.header("hookward-event-id")
    }

    pub fn delivery_id(&self) -> String {
        self.header("hookward-delivery-id")
    }

    pub fn attempt(&self) -> u32 {
        self.header("hookward-attempt").parse().unwrap()
    }

    pub fn head(&self) -> String {
        let mut head = format!("{} {}\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value)));
        }
        head
    }

    /// A line for each, for failed assertions.
    pub fn list(received: &[Received]) -> String {
        let line = |r: &Received| {
            let id = r.all("hookward-event-id").concat();
            format!(
                "\n  {} {} id={id} attempt={} {} bytes",
                r.method,
                r.target,
                r.all("hookward-attempt").concat(),
                r.body.len()
            )
        };
        received.iter().map(line).collect()
    }
}

/// The next request of a connection: `Ok(None)` at its clean end, `Err(None)` where it was cut,
/// `Err(Some(_))` where hookward sent something wrong.
pub fn read_request(reader: &mut impl BufRead) -> Result<Option<Received>, Option<String>> {
    let Some(request_line) = line(reader)? else { return Ok(None) };
    let parts: Vec<&str> = request_line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return Err(Some(format!("not a request line: {request_line:?}")));
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut headers = Vec::new();
    loop {
        let field = bytes_of_line(reader)?.ok_or(None)?;
        if field.is_empty() {
            break;
        }
        let Some(colon) = field.iter().position(|byte| *byte == b':') else {
            return Err(Some(format!("not a header line: {:?}", String::from_utf8_lossy(&field))));
        };
        let name = String::from_utf8_lossy(&field[..colon]).into_owned();
        headers.push((name, field[colon + 1..].trim_ascii().to_vec()));
    }
    let mut received = Received { method, target, headers, body: Vec::new(), at: Instant::now() };
    if received.has("transfer-encoding") {
        return Err(Some(format!("Transfer-Encoding in {}", received.head())));
    }
    let lengths = received.all("content-length");
    let [length] = &lengths[..] else {
        return Err(Some(format!("{} Content-Length fields in {}", lengths.len(), received.head())));
    };
    received.body = vec![0; length.parse().map_err(|_| Some(format!("Content-Length {length:?}")))?];
    reader.read_exact(&mut received.body).map_err(|_| None)?;
    Ok(Some(received))
}

fn line(reader: &mut impl BufRead) -> Result<Option<String>, Option<String>> {
    Ok(bytes_of_line(reader)?.map(|line| String::from_utf8_lossy(&line).into_owned()))
}

fn bytes_of_line(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>, Option<String>> {
    let mut line = Vec::new();
    match reader.read_until(b'\n', &mut line) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(_) => return Err(None),
    }
    match line.strip_suffix(b"\r\n") {
        Some(stripped) => Ok(Some(stripped.to_vec())),
        None if line.ends_with(b"\n") => Err(Some(format!("a bare line feed: {:?}", String::from_utf8_lossy(&line)))),
        None => Err(None),
    }
}
