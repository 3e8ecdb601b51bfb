"""python train.py task=Go1Push algo=HAPPO num_envs=4096"""
from happo_gpu.cli import main

if __name__ == "__main__":
    main()
