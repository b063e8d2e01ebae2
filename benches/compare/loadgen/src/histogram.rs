//! Latencies.

/// A log-linear histogram of nanoseconds, 1/64 resolution.
pub struct Hist {
    b: Vec<u64>,
    n: u64,
    pub max: u64,
}

impl Hist {
    pub fn new() -> Hist {
        Hist { b: vec![0; 64 * 64], n: 0, max: 0 }
    }

    #[inline]
    pub fn add(&mut self, ns: u64) {
        let v = ns | 1;
        let e = 63 - v.leading_zeros() as u64;
        let i = if e < 6 { v } else { (e - 5) * 64 + ((v >> (e - 6)) & 63) };
        self.b[i as usize] += 1;
        self.n += 1;
        if ns > self.max {
            self.max = ns
        }
    }

    /// The quantile `p` in microseconds.
    pub fn q(&self, p: f64) -> f64 {
        let want = (self.n as f64 * p).ceil() as u64;
        let mut c = 0;
        for (i, x) in self.b.iter().enumerate() {
            c += x;
            if c >= want && *x > 0 {
                let i = i as u64;
                let v = if i < 64 {
                    i
                } else {
                    let e = i / 64 + 5;
                    (64 + (i & 63)) << (e - 6)
                };
                return v as f64 / 1000.0;
            }
        }
        0.0
    }
}
