# Tells Ray that this spot machine is to be taken away, as soon as its cloud says so: spot_notice.sh aws|gcp
# Ray's autoscaler does not ask the clouds. Trials here then go on elsewhere, each after its epoch.
set -u
case "$1" in
aws) # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    service=${METADATA:-http://169.254.169.254} seconds=120
    noticed() {
        token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$service/latest/api/token") &&
            curl -sf -m 2 -H "X-aws-ec2-metadata-token: $token" "$service/latest/meta-data/spot/instance-action"
    }
    ;;
gcp) # https://cloud.google.com/compute/docs/instances/create-use-spot#detect-preemption
    service=${METADATA:-http://metadata.google.internal} seconds=30
    noticed() {
        curl -sf -m 2 -H 'Metadata-Flavor: Google' "$service/computeMetadata/v1/instance/preempted" | grep TRUE
    }
    ;;
*)
    echo "spot_notice.sh: name the cloud, aws or gcp" >&2
    exit 2
    ;;
esac
until noticed; do sleep "${INTERVAL:-2}"; done
exec ray drain-node --address "$RAY_ADDRESS" --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "spot notice" \
    --deadline-remaining-seconds "$seconds"
