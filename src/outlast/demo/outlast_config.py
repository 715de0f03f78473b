from outlast.config import Config, Retry

config = Config(dirs=["tasks"], retries=Retry(max_attempts=3, min_timeout=0.5, max_timeout=5), retries_in_dev=True)
