"""One SQLAlchemy class per noun; only service functions query them."""

from service.tables.annotation_set import AnnotationSet
from service.tables.base import Base
from service.tables.dataset import Dataset, DatasetExport, DatasetImage, DatasetShard
from service.tables.duty import Duty
from service.tables.event import Event
from service.tables.generator import Generator
from service.tables.image_pool import ImagePool, PoolPart
from service.tables.job import Job
from service.tables.report import Report
from service.tables.server_secret import ServerSecret
from service.tables.step import Step
from service.tables.student import Student
from service.tables.tally import Tally
from service.tables.webhook import Webhook, WebhookDelivery
from service.tables.worker import Worker

__all__ = [
    "AnnotationSet",
    "Base",
    "Dataset",
    "DatasetExport",
    "DatasetImage",
    "DatasetShard",
    "Duty",
    "Event",
    "Generator",
    "ImagePool",
    "Job",
    "PoolPart",
    "Report",
    "ServerSecret",
    "Step",
    "Student",
    "Tally",
    "Webhook",
    "WebhookDelivery",
    "Worker",
]
