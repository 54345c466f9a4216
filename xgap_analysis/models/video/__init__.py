"""Towers of clips that are started from an image tower: frames that exchange something inside it."""

from xgap_analysis.models.video.prompt_switch import PromptSwitch as PromptSwitch
from xgap_analysis.models.video.space_time import SpaceTime as SpaceTime
from xgap_analysis.models.video.tower import FRAME_TOWERS as FRAME_TOWERS
from xgap_analysis.models.video.tower import VideoTower as VideoTower
from xgap_analysis.models.video.tower import video_tower as video_tower
from xgap_analysis.models.video.tower import with_frames as with_frames
from xgap_analysis.models.video.tower import with_video as with_video
