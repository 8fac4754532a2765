"""torch's compiler comes when something is compiled, and training is bit for bit the same without it."""

import subprocess
import sys

from tests.fixtures.machines import REPOSITORY

PROGRAM = """
import sys
from trainables import late_compiler
from trainables.models.vae import VAE
import torch

def trained():
    model = VAE(VAE.Config(image_size=16, width=0.1), seed=3)
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for _ in range(3):
        model.training_step(images)
    return torch.cat([p.detach().flatten() for p in model.parameters()])

before = trained()
assert "sympy" not in sys.modules and "torch._dynamo.eval_frame" not in sys.modules
double = torch.compile(lambda x: 2 * x, backend="eager")
assert double(torch.ones(2)).tolist() == [2, 2]
assert "torch._dynamo.eval_frame" in sys.modules and torch._dynamo is sys.modules["torch._dynamo"]
assert late_compiler.compiler() is torch._dynamo
late_compiler.stand_in()
assert late_compiler.compiler() is torch._dynamo
assert torch.equal(trained(), before)
"""


def test_training_imports_no_compiler_and_compiling_does():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
