from outlast.config import Config

config = Config(project="proj_dashboard", dirs=["tasks"])
