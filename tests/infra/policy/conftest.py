"""The bench of the clouds: a strict double of AWS under the real engine."""

from tests.infra.clouds.conftest import bench, strict_cloud

__all__ = ["bench", "strict_cloud"]
