"""How far ahead GitHub's limits can lie. A time beyond them is a mistake of a header or of a clock, and is clamped."""

# GitHub's points come back each hour, told to the second: an hour, and a minute for clocks and the way.
LONGEST_WINDOW_SECONDS = 3600.0 + 60.0
# No limit of GitHub's lasts longer than a day.
LONGEST_WAIT_SECONDS = 24 * 3600.0
