"""The page and the API behind one CloudFront distribution: strangers start no function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aws_cdk import CfnOutput, CustomResource, Duration, RemovalPolicy
from aws_cdk import aws_cloudfront as cloudfront
from aws_cdk import aws_cloudfront_origins as origins
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.constructs.job_function import LoggedFunction
from infra.rights import allow, allow_reading_reports, allow_table

API_AT_ONCE = 5
CACHE_S = 2
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox"
)


class FrontDoor(Construct):
    """`/api/*` is the function, everything else the files of `web/`; reads only, changes have other ways in."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        table: dynamodb.ITable,
        bucket: s3.IBucket,
        code: lambda_.Code,
        page_code: lambda_.Code,
        page_version: str,
        env: Mapping[str, str],
        log_days: logs.RetentionDays,
        reserve: bool,
        dead_letters: sqs.IQueue,
        token_sha256: str | None,
    ) -> None:
        super().__init__(scope, id_)
        self.api = LoggedFunction(
            self,
            "Api",
            code=code,
            handler="functions.api.lambda_handler",
            env=env,
            memory_mb=512,
            timeout_s=15,
            log_days=log_days,
            dead_letters=dead_letters,
            at_once=API_AT_ONCE if reserve else None,
            description="Tapewatch: api",
        )
        allow_table(self.api.role, table, write=False)
        allow_reading_reports(self.api.role, bucket)
        url = self.api.function.add_function_url(auth_type=lambda_.FunctionUrlAuthType.AWS_IAM)
        pages = self._page_bucket()
        headers = self._headers("Headers", POLICY)
        api = self._api_behavior(url, headers, token_sha256)
        # A report has its style inside, which the page's policy forbids; nothing else differs.
        a_report = {**api, "response_headers_policy": self._headers("ReportHeaders", REPORT_POLICY)}
        self.distribution = cloudfront.Distribution(
            self,
            "Distribution",
            comment="Tapewatch",
            default_root_object="index.html",
            http_version=cloudfront.HttpVersion.HTTP2_AND_3,
            price_class=cloudfront.PriceClass.PRICE_CLASS_100,
            default_behavior=cloudfront.BehaviorOptions(
                origin=origins.S3BucketOrigin.with_origin_access_control(pages),
                viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
                cache_policy=cloudfront.CachePolicy(
                    self, "PageCache", default_ttl=Duration.minutes(1), max_ttl=Duration.minutes(5),
                    min_ttl=Duration.seconds(0), enable_accept_encoding_brotli=True, enable_accept_encoding_gzip=True,
                ),
                response_headers_policy=headers,
            ),
            additional_behaviors={
                "/api/reports/*": cloudfront.BehaviorOptions(**a_report),
                "/api/*": cloudfront.BehaviorOptions(**api),
            },
        )  # fmt: skip
        self._page_files(pages, page_code, page_version, log_days, dead_letters)
        CfnOutput(self, "Address", value=f"https://{self.distribution.domain_name}")

    def _headers(self, id_: str, policy: str) -> cloudfront.ResponseHeadersPolicy:
        return cloudfront.ResponseHeadersPolicy(
            self,
            id_,
            security_headers_behavior=cloudfront.ResponseSecurityHeadersBehavior(
                content_security_policy=cloudfront.ResponseHeadersContentSecurityPolicy(
                    content_security_policy=policy, override=True
                ),
                content_type_options=cloudfront.ResponseHeadersContentTypeOptions(override=True),
                frame_options=cloudfront.ResponseHeadersFrameOptions(
                    frame_option=cloudfront.HeadersFrameOption.DENY, override=True
                ),
                referrer_policy=cloudfront.ResponseHeadersReferrerPolicy(
                    referrer_policy=cloudfront.HeadersReferrerPolicy.NO_REFERRER, override=True
                ),
                strict_transport_security=cloudfront.ResponseHeadersStrictTransportSecurity(
                    access_control_max_age=Duration.days(365), override=True
                ),
            ),
        )

    def _api_behavior(
        self, url: lambda_.FunctionUrl, headers: cloudfront.ResponseHeadersPolicy, token_sha256: str | None
    ) -> dict[str, Any]:
        checks = None
        if token_sha256 is not None:
            # The hash is part of the name: another token makes another store, because a store's source is read once.
            store = cloudfront.KeyValueStore(
                self,
                f"Token{token_sha256[:8]}",
                source=cloudfront.ImportSource.from_inline(
                    json.dumps({"data": [{"key": "token_sha256", "value": token_sha256}]})
                ),
            )
            check = cloudfront.Function(
                self,
                "TokenCheck",
                code=cloudfront.FunctionCode.from_file(file_path=str(Path(__file__).parent / "token_check.js")),
                runtime=cloudfront.FunctionRuntime.JS_2_0,
                key_value_store=store,
            )
            checks = [
                cloudfront.FunctionAssociation(
                    function=check, event_type=cloudfront.FunctionEventType.VIEWER_REQUEST
                )
            ]  # fmt: skip
        return {
            "origin": origins.FunctionUrlOrigin.with_origin_access_control(url),
            "viewer_protocol_policy": cloudfront.ViewerProtocolPolicy.HTTPS_ONLY,
            "allowed_methods": cloudfront.AllowedMethods.ALLOW_GET_HEAD,
            "cache_policy": cloudfront.CachePolicy(
                self, "ApiCache", default_ttl=Duration.seconds(CACHE_S), max_ttl=Duration.seconds(CACHE_S),
                min_ttl=Duration.seconds(0), query_string_behavior=cloudfront.CacheQueryStringBehavior.all(),
                enable_accept_encoding_brotli=True, enable_accept_encoding_gzip=True,
            ),
            "response_headers_policy": headers,
            "function_associations": checks,
        }  # fmt: skip

    def _page_bucket(self) -> s3.Bucket:
        return s3.Bucket(
            self,
            "Page",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=RemovalPolicy.DESTROY,  # emptied first by the function below
        )

    def _page_files(
        self,
        bucket: s3.Bucket,
        code: lambda_.Code,
        version: str,
        log_days: logs.RetentionDays,
        dead_letters: sqs.IQueue,
    ) -> None:
        """Copy the files of `web/` into the bucket at each deployment that changes them, and out at the end."""
        copier = LoggedFunction(
            self,
            "PageFiles",
            code=code,
            handler="functions.page_files.lambda_handler",
            env={},
            memory_mb=256,
            timeout_s=60,
            log_days=log_days,
            dead_letters=dead_letters,
            description="Tapewatch: copies the page at deployment",
        )
        # On the bucket stands who may write into it.
        writer = iam.ArnPrincipal(copier.role.role_arn)
        written = bucket.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["s3:DeleteObject", "s3:PutObject"],
                principals=[writer],
                resources=[bucket.arn_for_objects("*")],
            )
        )
        allow(copier.role, ("s3:ListBucket",), bucket.bucket_arn)
        copied = CustomResource(
            self,
            "Files",
            service_token=copier.function.function_arn,
            resource_type="Custom::PageFiles",
            properties={"Bucket": bucket.bucket_name, "Version": version},
        )
        copied.node.add_dependency(copier.role)
        if written.policy_dependable is not None:
            copied.node.add_dependency(written.policy_dependable)
