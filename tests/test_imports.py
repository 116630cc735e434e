"""curricula needs NumPy and the standard library, nothing else, so that any loop can take it."""

import json
import subprocess
import sys

CODE = """
import json, sys
import curricula
curricula.describe()
import curricula.testing
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_curricula_imports_numpy_and_the_standard_library_only():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert {"curricula", "numpy"} <= loaded
    assert not loaded & {
        "torch",
        "ray",
        "vllm",
        "pydantic",
        "yaml",
        "transformers",
        "pyarrow",
        "scipy",
        "typer",
        "rollout",
        "trainer",
    }
    started = subprocess.run(
        [sys.executable, "-c", CODE.replace("import curricula\ncurricula.describe()\nimport curricula.testing", "")],
        capture_output=True,
        text=True,
        check=True,
    )
    extra = loaded - set(json.loads(started.stdout)) - set(sys.stdlib_module_names) - {"curricula", "numpy"}
    assert not extra
