"""One SQLAlchemy class per noun; only service functions query them."""

from service.tables.annotation_set import AnnotationSet
from service.tables.api_key import ApiKey
from service.tables.audit_entry import AuditEntry
from service.tables.base import Base
from service.tables.dataset import Dataset, DatasetExport, DatasetImage, DatasetShard
from service.tables.duty import Duty
from service.tables.event import Event
from service.tables.generator import Generator
from service.tables.image_pool import ImagePool, PoolPart
from service.tables.job import Job
from service.tables.report import Report
from service.tables.server_secret import ServerSecret
from service.tables.sign_in import SignIn
from service.tables.step import Step
from service.tables.student import Student
from service.tables.tally import Tally
from service.tables.webhook import Webhook, WebhookDelivery
from service.tables.worker import Worker
from service.tables.workspace import DEFAULT_WORKSPACE_ID, Workspace

__all__ = [
    "DEFAULT_WORKSPACE_ID",
    "AnnotationSet",
    "ApiKey",
    "AuditEntry",
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
    "SignIn",
    "Step",
    "Student",
    "Tally",
    "Webhook",
    "WebhookDelivery",
    "Worker",
    "Workspace",
]
