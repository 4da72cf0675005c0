"""Creates the S3 buckets that are named on the command line and are not there yet."""

from __future__ import annotations

import sys

import boto3
from botocore.exceptions import ClientError

client = boto3.client("s3")
for name in sys.argv[1:]:
    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        client.create_bucket(Bucket=name)
