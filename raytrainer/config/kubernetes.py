"""What a run on Kubernetes needs beside a run's settings: image, pods, storage, secrets, the job's limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raytrainer.config.setting import Count, Duration, Section, Word, form

Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
        max_length=253,
        json_schema_extra=form("a name as Kubernetes has them: small letters, digits, dashes"),
    ),
]
"""The name of something that is in the cluster already."""
Label = Annotated[
    str,
    Field(
        pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$",
        max_length=47,
        json_schema_extra=form("small letters, digits and dashes, a letter first, no dash at the end, 47 at most"),
    ),
]
"""The name of what is made: KubeRay adds to it, and 63 characters is all that a label has room for."""
Quantity = Annotated[
    str,
    Field(
        pattern=r"^[0-9]*[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$",
        json_schema_extra=form("an amount of memory as Kubernetes writes it: 500Mi, 8Gi"),
    ),
]
Cores = Annotated[float, Field(gt=0)]


class SecretKey(Section):
    """One value in a Secret of the namespace."""

    secret: Name
    """The Secret's name."""
    key: Word
    """The key in it."""


class Toleration(Section):
    """A taint of nodes that worker pods put up with, as Kubernetes calls it."""

    key: Word | None = None
    """The taint's key. Without one: every taint, with operator: Exists."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Whether the taint's value counts."""
    value: str | None = None
    """The taint's value, with operator: Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Which effect. Default: every one."""


class PodStorage(Section):
    """How pods reach run.storage_path."""

    pvc: Name | None = None
    """A PersistentVolumeClaim (ReadWriteMany), mounted into every pod."""
    mount: Annotated[str, Field(pattern=r"^/[^:]*[^:/]$", json_schema_extra=form("an absolute path: /mnt/runs"))] = (
        "/mnt/raytrainer"
    )
    """Where it is mounted; run.storage_path is below."""
    secret: Name | None = None
    """A Secret whose keys are variables that an object store's client reads: AWS_ACCESS_KEY_ID and the like."""


class Head(Section):
    """The pod of Ray's head, where the driver is: no GPU, no workers."""

    cpus: Cores = 2
    """CPU cores."""
    memory: Quantity = "8Gi"
    """Memory."""
    node_selector: dict[str, str] = {}
    """Labels that its node has."""


class Redis(Section):
    """Where Ray's head keeps its state, so that a cluster outlives it."""

    address: Word
    """host:port."""
    password: SecretKey | None = None
    """The password's Secret."""


class Kubernetes(Section):
    """How the run is made of pods: what ``raytrainer manifest`` writes besides what the run's own settings say."""

    image: Word
    """The container image of every pod, with raytrainer and all that the run imports."""
    name: Label | None = None
    """What the job or cluster is called. Default: the run's name, in small letters and dashes."""
    namespace: Label | None = None
    """The namespace. Default: the one that kubectl uses."""
    ray_version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$", json_schema_extra=form("2.60.0"))] | None = None
    """The image's Ray. Default: the version installed here."""
    image_pull_secrets: list[Name] = []
    """Secrets to pull the image with."""
    working_dir: Word | None = None
    """Where code and data are: a folder in the image, or the URI of a zip that Ray fetches (s3://, gs://, https://).
    Default: the image's own folder."""
    cpus: Cores | None = None
    """CPU cores of a worker. Default: what scaling.resources_per_worker says, else 1, beside a GPU or a TPU 4."""
    memory: Quantity = "8Gi"
    """Memory of a worker."""
    shm: Quantity | None = None
    """Shared memory (/dev/shm) of a pod, which is part of its memory. Default: as much as that."""
    gpu: Literal["nvidia.com/gpu", "amd.com/gpu"] = "nvidia.com/gpu"
    """What Kubernetes calls a GPU. With scaling.use_tpu pods have google.com/tpu."""
    workers_per_pod: Count = 1
    """Workers that share a pod: as many as a node has GPUs saves network."""
    pods: Count | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)] | None = None
    """Worker pods; [least, most] for an autoscaler. Default: as many as scaling, or the sweep's trials, take."""
    head: Head = Head()
    """The head's pod."""
    node_selector: dict[str, str] = {}
    """Labels that the nodes of workers have."""
    tolerations: list[Toleration] = []
    """Taints that worker pods put up with."""
    spot: Literal["gke", "eks", "karpenter", "aks"] | None = None
    """Workers on spot nodes, all else on nodes that stay; who manages the nodes, for the labels that it uses."""
    user: Annotated[int, Field(ge=1)] = 1000
    """The user id that everything runs as; not root."""
    groups: list[Count] = []
    """More group ids, where devices need one: AMD's render group, for example."""
    service_account: Name | None = None
    """The pods' service account, for a cloud's workload identity."""
    storage: PodStorage = PodStorage()
    """How pods reach run.storage_path."""
    mlflow: SecretKey | None = None
    """The Secret that has MLflow's URI."""
    env: dict[str, str | SecretKey] = {}
    """Environment variables of every pod: text, or {secret: , key: }."""
    env_from: list[Name] = []
    """Secrets whose keys are environment variables of every pod."""
    queue: Name | None = None
    """A LocalQueue of Kueue; the job is made suspended, and Kueue lets it begin."""
    ttl: Duration = "10m"
    """How long the pods stay when it is over."""
    active_deadline: Duration | None = None
    """How long an attempt of the job may take; one that takes longer is the last."""
    pre_running_deadline: Duration | None = None
    """How long it may wait for nodes and images before it has failed."""
    backoff_limit: Annotated[int, Field(ge=0)] = 2
    """How often the job is begun again, with new pods; it goes on from its newest checkpoint."""
    auth: Literal["token", "disabled"] = "token"
    """Whether Ray asks everybody for a token."""
    auth_secret: Name | None = None
    """The Secret with the token, key auth_token. Default: one that KubeRay makes."""
    redis: Redis | None = None
    """Where the head keeps its state, for clusters that live long."""
