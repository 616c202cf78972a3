"""The CDK application: `cdk` runs it through `python3 start.py synth`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from aws_cdk import App, DefaultStackSynthesizer, Environment, Tags, Validations
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_lambda as lambda_

from infra.acknowledged import acknowledge_all
from infra.assets import ROOT, content_digest, functions_bundle, image_folder, page_bundle, starter_bundle
from infra.data_stack import DataStack
from infra.names import futures_blocked
from infra.pace import paced
from infra.tapewatch_stack import ImageSource, Parts, TapewatchStack
from infra.token import token_hash
from shared.errors import TapewatchError
from shared.settings import Settings
from shared.settings_loader import load_settings

ADVICE = (
    "{region} lies in the US, from where the exchange refuses its futures API: this deployment watches spot only. "
    "Choose another region (aws.region) for the sector detector, or set sector.enabled to false to agree."
)


def effective(settings: Settings, region: str | None) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings that can work in the region, at AWS's pace, and what to tell about the difference."""
    settings = paced(settings)
    if not settings.aws.streamer.enabled:
        settings = without_streams(settings)
    if not (settings.sector.enabled and futures_blocked(region)):
        return settings, ()
    return (
        msgspec.structs.replace(settings, sector=msgspec.structs.replace(settings.sector, enabled=False)),
        (ADVICE.format(region=region),),
    )


def without_streams(settings: Settings) -> Settings:
    """Switch off what looks at every trade: without a streamer nobody would, and the watchdog would miss it."""
    replace = msgspec.structs.replace
    return replace(
        settings,
        trade_spike=replace(settings.trade_spike, enabled=False),
        window_anomaly=replace(settings.window_anomaly, enabled=False),
        pump=replace(settings.pump, enabled=False),
    )


def build(app: App, settings: Settings, parts: Parts, notes: tuple[str, ...] = ()) -> tuple[DataStack, TapewatchStack]:
    """Define both stacks in `app`."""
    name, region = settings.aws.stack_name, settings.aws.region
    env = Environment(region=region) if region else None

    def synthesizer() -> DefaultStackSynthesizer:
        # Without the rule a deployment needs no right to read the bootstrap's version.
        return DefaultStackSynthesizer(generate_bootstrap_version_rule=False)

    data = DataStack(app, f"{name}Data", env=env, synthesizer=synthesizer(), description="Tapewatch: what is kept")
    main = TapewatchStack(
        app,
        name,
        settings=settings,
        data=data,
        parts=parts,
        notes=notes,
        env=env,
        synthesizer=synthesizer(),
        description="Tapewatch: everything that can be made again",
    )
    Tags.of(app).add("application", "tapewatch", exclude_resource_types=["AWS::SSM::Parameter"])
    acknowledge_all(name, data, main)
    return data, main


def real_parts(settings: Settings) -> Parts:
    """Build the bundles and the image's folder.

    Raises:
        ConfigurationError: a bundle cannot be built here.
    """
    functions, page = functions_bundle(settings), page_bundle()
    aws = settings.aws.streamer
    image: ecs.ContainerImage | ImageSource | None = None
    if aws.enabled and aws.image is None:
        folder = image_folder(settings)
        if build_in_account(settings, os.environ):
            image = ImageSource(folder, folder.name.rpartition("-")[2], code(starter_bundle()))
        else:
            image = ecs.ContainerImage.from_asset(
                str(folder), platform=ecr_assets.Platform.LINUX_ARM64, asset_name="tapewatch-streamer"
            )
    token = token_hash(settings) if settings.api.enabled and not settings.api.open_reads else None
    return Parts(code(functions), code(page), content_digest(page)[:16], image, token)


def build_in_account(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Say whether CodeBuild builds the image: when the settings say so, or when there is no container engine here."""
    chosen = settings.aws.streamer.build
    if chosen == "auto":
        return shutil.which(environ.get("CDK_DOCKER", "docker"), path=environ.get("PATH")) is None
    return chosen == "codebuild"


def code(bundle: Path) -> lambda_.Code:
    return lambda_.Code.from_asset(str(bundle), asset_hash=content_digest(bundle))


def context() -> dict[str, object]:
    """Return the feature flags of cdk.json, for an application that is not started by the command line."""
    flags: dict[str, object] = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    return flags


def main(environ: Mapping[str, str] | None = None) -> int:
    env = os.environ if environ is None else environ
    try:
        loaded = load_settings(environ=env).settings
        region = loaded.aws.region or env.get("CDK_DEFAULT_REGION") or env.get("AWS_REGION")
        settings, notes = effective(loaded, region)
        app = App()
        build(app, settings, real_parts(settings), notes)
    except TapewatchError as exc:
        sys.stderr.write(f"{exc}\n")
        return exc.exit_status
    from cdk_nag import AwsSolutionsChecks, ServerlessChecks

    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
