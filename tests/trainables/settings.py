"""Settings that the trials of these tests share."""

SMALL_FACES = {
    "dataset": "faces",
    "dataset_limit": 60,
    "image_size": 16,
    "width": 0.1,
    "latent_dim": 6,
    "batch_size": 8,
    "evaluation_samples": 20,
    "features": "random",
}
