#!/bin/sh
# Print the path of a Python 3.11 or newer that really runs, 3.13 (the Lambda runtime) before others; or of the very
# version that is named: sh local/find-python.sh 3.13. The variable PYTHON names one to try first.
# A version manager's shim may be on the PATH and still answer "command not found": every candidate is tried.
only=${1:-}
pyenv=${PYENV_ROOT:-$HOME/.pyenv}/versions
for candidate in ${PYTHON:-python3.13} python3.13 "$pyenv"/3.13*/bin/python3 python3.12 "$pyenv"/3.12*/bin/python3 \
    python3.11 "$pyenv"/3.11*/bin/python3 python3 "$pyenv"/*/bin/python3; do
    found=$("$candidate" -c 'import sys; v = sys.version_info
print(sys.executable if v >= (3, 11) and sys.argv[1] in ("", "%d.%d" % v[:2]) else "")' "$only" 2>/dev/null)
    if [ -n "$found" ]; then
        echo "$found"
        exit 0
    fi
done
echo "No Python ${only:-3.11 or newer} runs on this machine; install Python 3.13 and try again." >&2
exit 1
