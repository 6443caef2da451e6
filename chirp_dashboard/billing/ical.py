"""Events as an iCalendar object (RFC 5545): all-day, with lasting ids, in lines of at most 75 octets."""

from datetime import UTC, datetime, time, timedelta

LONGEST = 75
PRODUCT = "-//chirp-dashboard//billing//EN"


def escaped(text):
    """`text` as a TEXT value."""
    text = text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    text = "\\n".join(text.splitlines())
    return "".join(letter for letter in text if letter.isprintable())


def folded(line):
    """`line` broken into lines of at most 75 octets, never within a letter."""
    lines, size = [""], 0
    for letter in line:
        octets = len(letter.encode())
        if size + octets > LONGEST:
            lines.append(" ")
            size = 1
        lines[-1] += letter
        size += octets
    return lines


def calendar(name, events, *, host, on, link):
    """The calendar `name` as bytes; the same on the same day as long as `events` are."""
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        f"PRODID:{PRODUCT}",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        f"NAME:{escaped(name)}",
        f"X-WR-CALNAME:{escaped(name)}",
        "REFRESH-INTERVAL;VALUE=DURATION:PT6H",
        "X-PUBLISHED-TTL:PT6H",
    ]
    stamp = datetime.combine(on, time(), UTC)
    for event in events:
        lines += event_lines(event, host=host, stamp=stamp, link=link)
    lines.append("END:VCALENDAR")
    return "".join(f"{part}\r\n" for line in lines for part in folded(line)).encode()


def event_lines(event, *, host, stamp, link):
    note = f"{event.note}\n{link}".strip()
    return [
        "BEGIN:VEVENT",
        f"UID:{event.key}@{host}",
        f"DTSTAMP:{stamp:%Y%m%dT%H%M%SZ}",
        f"DTSTART;VALUE=DATE:{event.date:%Y%m%d}",
        f"DTEND;VALUE=DATE:{event.date + timedelta(days=1):%Y%m%d}",
        f"SUMMARY:{escaped(event.title)}",
        f"DESCRIPTION:{escaped(note)}",
        f"URL:{link}",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
    ]
