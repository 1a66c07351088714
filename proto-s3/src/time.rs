//! The notations of time that S3 speaks: HTTP dates, ISO 8601 in documents, and the compact form of SigV4.
//!
//! A point in time is a count of seconds since 1970-01-01T00:00:00Z ([`UnixSeconds`]), or of milliseconds where
//! documents show them. Nothing here reads a clock.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds.
pub type UnixSeconds = i64;

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const WEEKDAYS_LONG: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The civil time in UTC. Times outside the years -9999 to 9999 become the nearest one inside.
fn civil(seconds: UnixSeconds) -> DateTime {
    let nearest = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Offset::UTC.to_datetime(Timestamp::from_second(seconds).unwrap_or(nearest))
}

/// The count of seconds; `None` when the parts are not a date and time of the calendar.
fn seconds_of(date: Option<Date>, hour: u32, minute: u32, second: u32) -> Option<UnixSeconds> {
    // A leap second (RFC 9110 allows 60) is the second after it.
    let leap = i64::from(second == 60);
    let time =
        Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, second.min(59) as i8, 0).ok()?;
    if second > 60 {
        return None;
    }
    let timestamp = Offset::UTC.to_timestamp(DateTime::from_parts(date?, time)).ok()?;
    Some(timestamp.as_second() + leap)
}

fn date_of(year: u32, month: u32, day: u32) -> Option<Date> {
    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// An HTTP date in its preferred form (RFC 9110, 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(seconds: UnixSeconds) -> String {
    let t = civil(seconds);
    let mut out = String::with_capacity(32);
    out.push_str(WEEKDAYS[t.weekday().to_monday_zero_offset() as usize]);
    out.push_str(", ");
    push_two_digits(&mut out, t.day());
    out.push(' ');
    out.push_str(MONTHS[t.month() as usize - 1]);
    out.push(' ');
    push_year(&mut out, t.year());
    out.push(' ');
    push_clock(&mut out, t, ":");
    out.push_str(" GMT");
    out
}

/// ISO 8601 with milliseconds, as documents carry it: `2009-10-12T17:50:30.000Z`.
pub fn iso8601(milliseconds: i64) -> String {
    let t = civil(milliseconds.div_euclid(1000));
    let fraction = milliseconds.rem_euclid(1000);
    let mut out = String::with_capacity(32);
    push_date(&mut out, t, "-");
    out.push('T');
    push_clock(&mut out, t, ":");
    out.push('.');
    out.push(char::from(b'0' + (fraction / 100) as u8));
    push_two_digits(&mut out, (fraction % 100) as i8);
    out.push('Z');
    out
}

/// The time of SigV4: `20130524T000000Z`.
pub fn amz_date(seconds: UnixSeconds) -> String {
    let t = civil(seconds);
    let mut out = String::with_capacity(32);
    push_date(&mut out, t, "");
    out.push('T');
    push_clock(&mut out, t, "");
    out.push('Z');
    out
}

fn push_date(out: &mut String, t: DateTime, separator: &str) {
    push_year(out, t.year());
    out.push_str(separator);
    push_two_digits(out, t.month());
    out.push_str(separator);
    push_two_digits(out, t.day());
}

fn push_clock(out: &mut String, t: DateTime, separator: &str) {
    push_two_digits(out, t.hour());
    out.push_str(separator);
    push_two_digits(out, t.minute());
    out.push_str(separator);
    push_two_digits(out, t.second());
}

/// Four digits, and a sign before the common era.
fn push_year(out: &mut String, year: i16) {
    if year < 0 {
        out.push('-');
    }
    let year = year.unsigned_abs();
    push_two_digits(out, (year / 100) as i8);
    push_two_digits(out, (year % 100) as i8);
}

/// Every response and every signature has a dozen of these: the formatting machinery takes ten times as long.
fn push_two_digits(out: &mut String, value: i8) {
    let value = value.unsigned_abs();
    out.push(char::from(b'0' + value / 10 % 10));
    out.push(char::from(b'0' + value % 10));
}

/// Reads the time of SigV4, `20130524T000000Z` and nothing else.
pub fn parse_amz_date(text: &str) -> Option<UnixSeconds> {
    let mut cursor = Cursor(text.as_bytes());
    let date = date_of(cursor.number(4)?, cursor.number(2)?, cursor.number(2)?);
    cursor.literal("T")?;
    let (hour, minute, second) = (cursor.number(2)?, cursor.number(2)?, cursor.number(2)?);
    cursor.literal("Z")?;
    cursor.end()?;
    seconds_of(date, hour, minute, second)
}

/// Reads ISO 8601 in UTC, with or without a fraction: `2009-10-12T17:50:30Z`, `2009-10-12T17:50:30.000Z`. The fraction
/// is dropped.
pub fn parse_iso8601(text: &str) -> Option<UnixSeconds> {
    let mut cursor = Cursor(text.as_bytes());
    let year = cursor.number(4)?;
    cursor.literal("-")?;
    let month = cursor.number(2)?;
    cursor.literal("-")?;
    let date = date_of(year, month, cursor.number(2)?);
    cursor.literal("T")?;
    let (hour, minute, second) = cursor.clock()?;
    if cursor.literal(".").is_some() {
        cursor.number(1)?;
        while cursor.number(1).is_some() {}
    }
    cursor.literal("Z")?;
    cursor.end()?;
    seconds_of(date, hour, minute, second)
}

/// Reads an HTTP date in any of the three forms of RFC 9110, 5.6.7: IMF-fixdate, RFC 850, asctime.
///
/// The weekday must be a weekday but is not compared with the date. A two-digit year is 1970 to 2069.
pub fn parse_http_date(text: &str) -> Option<UnixSeconds> {
    parse_imf_fixdate(text).or_else(|| parse_rfc850(text)).or_else(|| parse_asctime(text))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn parse_imf_fixdate(text: &str) -> Option<UnixSeconds> {
    let mut cursor = Cursor(text.as_bytes());
    cursor.one_of(&WEEKDAYS)?;
    cursor.literal(", ")?;
    let day = cursor.number(2)?;
    cursor.literal(" ")?;
    let month = cursor.one_of(&MONTHS)?;
    cursor.literal(" ")?;
    let year = cursor.number(4)?;
    cursor.literal(" ")?;
    let (hour, minute, second) = cursor.clock()?;
    cursor.literal(" GMT")?;
    cursor.end()?;
    seconds_of(date_of(year, month + 1, day), hour, minute, second)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn parse_rfc850(text: &str) -> Option<UnixSeconds> {
    let mut cursor = Cursor(text.as_bytes());
    cursor.one_of(&WEEKDAYS_LONG)?;
    cursor.literal(", ")?;
    let day = cursor.number(2)?;
    cursor.literal("-")?;
    let month = cursor.one_of(&MONTHS)?;
    cursor.literal("-")?;
    let two_digits = cursor.number(2)?;
    cursor.literal(" ")?;
    let (hour, minute, second) = cursor.clock()?;
    cursor.literal(" GMT")?;
    cursor.end()?;
    let century = if two_digits < 70 { 2000 } else { 1900 };
    seconds_of(date_of(century + two_digits, month + 1, day), hour, minute, second)
}

/// `Sun Nov  6 08:49:37 1994`
fn parse_asctime(text: &str) -> Option<UnixSeconds> {
    let mut cursor = Cursor(text.as_bytes());
    cursor.one_of(&WEEKDAYS)?;
    cursor.literal(" ")?;
    let month = cursor.one_of(&MONTHS)?;
    cursor.literal(" ")?;
    let day = if cursor.literal(" ").is_some() { cursor.number(1)? } else { cursor.number(2)? };
    cursor.literal(" ")?;
    let (hour, minute, second) = cursor.clock()?;
    cursor.literal(" ")?;
    let year = cursor.number(4)?;
    cursor.end()?;
    seconds_of(date_of(year, month + 1, day), hour, minute, second)
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn literal(&mut self, expected: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(expected.as_bytes())?;
        Some(())
    }

    /// Exactly that many decimal digits (at most 9).
    fn number(&mut self, digit_count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(digit_count)?;
        let number = digits.iter().try_fold(0, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
        })?;
        self.0 = rest;
        Some(number)
    }

    /// The index of the name that comes next.
    fn one_of(&mut self, names: &[&str]) -> Option<u32> {
        let index = names.iter().position(|name| self.0.starts_with(name.as_bytes()))?;
        self.0 = &self.0[names[index].len()..];
        Some(index as u32)
    }

    /// `08:49:37`
    fn clock(&mut self) -> Option<(u32, u32, u32)> {
        let hour = self.number(2)?;
        self.literal(":")?;
        let minute = self.number(2)?;
        self.literal(":")?;
        Some((hour, minute, self.number(2)?))
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of RFC 9110.
    const EXAMPLE: UnixSeconds = 784_111_777;

    #[test]
    fn the_three_forms_of_an_http_date_are_read() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse_http_date(text), Some(EXAMPLE), "{text}");
        }
        assert_eq!(parse_http_date("Wed Nov 16 08:49:37 1994"), Some(EXAMPLE + 10 * 86_400));
        assert_eq!(http_date(EXAMPLE), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn two_digit_years_are_from_1970_to_2069() {
        assert_eq!(parse_http_date("Sunday, 06-Nov-70 00:00:00 GMT"), Some(26_697_600));
        assert_eq!(parse_http_date("Sunday, 06-Nov-69 00:00:00 GMT"), Some(3_150_921_600));
    }

    #[test]
    fn what_is_not_a_date_is_none() {
        for text in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun, +6 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_next_second() {
        assert_eq!(
            parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT"),
            parse_http_date("Sun, 01 Jan 2017 00:00:00 GMT")
        );
    }

    #[test]
    fn documents_show_milliseconds() {
        assert_eq!(iso8601(1_255_369_830_000), "2009-10-12T17:50:30.000Z");
        assert_eq!(iso8601(1_255_369_830_007), "2009-10-12T17:50:30.007Z");
        assert_eq!(iso8601(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn iso8601_is_read_with_and_without_a_fraction() {
        for text in ["2009-10-12T17:50:30Z", "2009-10-12T17:50:30.5Z", "2009-10-12T17:50:30.000000Z"] {
            assert_eq!(parse_iso8601(text), Some(1_255_369_830), "{text}");
        }
        for text in
            ["2009-10-12", "2009-10-12T17:50:30", "2009-10-12T17:50:30.Z", "2009-10-12T17:50:30+01:00"]
        {
            assert_eq!(parse_iso8601(text), None, "{text}");
        }
    }

    #[test]
    fn the_sigv4_form_is_read_and_written() {
        assert_eq!(parse_amz_date("20130524T000000Z"), Some(1_369_353_600));
        assert_eq!(amz_date(1_369_353_600), "20130524T000000Z");
        for text in
            ["20130524", "20130524T000000", "20130524T000000z", "20131324T000000Z", "20130524T000000ZZ"]
        {
            assert_eq!(parse_amz_date(text), None, "{text}");
        }
    }

    #[test]
    fn times_outside_the_calendar_become_the_nearest() {
        assert!(http_date(i64::MAX).contains("9999"));
        assert!(iso8601(i64::MIN).starts_with("-"));
    }

    proptest! {
        #[test]
        fn every_form_reads_back(seconds in -62_135_596_800i64..253_402_207_200) {
            prop_assert_eq!(parse_http_date(&http_date(seconds)), Some(seconds));
            prop_assert_eq!(parse_amz_date(&amz_date(seconds)), Some(seconds));
            prop_assert_eq!(parse_iso8601(&iso8601(seconds * 1000)), Some(seconds));
        }

        #[test]
        fn reading_never_panics(text in "\\PC*") {
            let _ = (parse_http_date(&text), parse_amz_date(&text), parse_iso8601(&text));
        }
    }
}
