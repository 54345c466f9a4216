"""How the explorers look: readable at 1280 pixels, in Okabe and Ito's colours, with a visible focus."""

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8A8A8A"
CLASSES = (BLUE, ORANGE, GREEN, RED, "#56B4E9", "#CC79A7")  # as many classes as readers can distinguish
SHOWN = 64  # pixels of a thumbnail on screen
LABEL_WIDTH = "112px"
WRAP = {"flex_flow": "row wrap"}  # of a box in a row: what does not fit goes to the next line
MAP = {"flex": "1 1 380px", "min_width": "280px", "max_width": "570px"}  # a map shrinks before what is beside it wraps
BESIDE = {"flex": "0 0 auto", "padding": "0 0 0 12px"}

STYLE = f"""<style>
.xgap {{ max-width: 1000px; }}
.xgap img {{ max-width: 100%; }}
.xgap .widget-inline-hbox, .xgap .xgap-slider, .xgap select {{ max-width: calc(100% - 4px); }}
.xgap .xgap-numbers {{ max-width: 240px; }}
.xgap .xgap-title {{ font-weight: 600; font-size: 15px; line-height: 22px; }}
.xgap button:focus-visible, .xgap input:focus-visible, .xgap select:focus-visible, .xgap textarea:focus-visible
  {{ outline: 3px solid {BLUE} !important; outline-offset: 1px; }}
.xgap .xgap-unseen-name > label {{ position: absolute; width: 1px; height: 1px; margin: 0;
  overflow: hidden; clip-path: inset(50%); }}
.xgap .xgap-error {{ border-left: 4px solid {RED}; padding: 4px 10px; background: #FDF0E9; color: #111;
  line-height: 18px; white-space: normal; }}
.xgap .xgap-code textarea {{ font-family: var(--jp-code-font-family, monospace); font-size: 12px; line-height: 16px; }}
.xgap .xgap-files {{ margin: 2px 0 2px 18px; line-height: 18px; font-family: var(--jp-code-font-family, monospace);
  font-size: 12px; }}
.xgap .xgap-row {{ line-height: 17px; font-size: 12px; overflow-wrap: anywhere; white-space: normal; }}
.xgap .xgap-row b {{ font-size: 13px; }}
.xgap .xgap-card {{ margin: 2px; padding: {SHOWN + 8}px 2px 2px; color: #111;
  background-color: #FFF; background-repeat: no-repeat; background-position: center 5px;
  background-size: {SHOWN}px {SHOWN}px; border: 1px solid #BBB; font-size: 12px; line-height: 15px;
  white-space: pre-line; overflow: hidden; }}
.xgap .xgap-card.xgap-words {{ padding-top: 4px; overflow-wrap: anywhere; text-align: left; align-items: flex-start; }}
.xgap .xgap-card.xgap-hit {{ border: 3px solid {GREEN}; }}
.xgap .xgap-card.xgap-chosen {{ border: 3px dashed {BLUE}; }}
.xgap .xgap-about {{ font-size: 12px; line-height: 17px; white-space: normal; overflow-wrap: anywhere; }}
.xgap .xgap-about img {{ width: 80px; height: 80px; object-fit: contain; background: #FFF; border: 1px solid #BBB; }}
.xgap .xgap-about img.xgap-icon {{ width: 28px; height: 28px; vertical-align: middle; margin: 1px 0; }}
.xgap .xgap-hint {{ font-size: 12px; line-height: 17px; }}
.xgap .xgap-beside {{ display: flex; align-items: center; gap: 10px; }}
.xgap .xgap-numbers {{ font-size: 12px; line-height: 18px; border-collapse: collapse; }}
.xgap .xgap-numbers td {{ padding: 1px 8px 1px 0; }}
.xgap .xgap-numbers td:last-child {{ text-align: right; font-variant-numeric: tabular-nums; }}
.xgap .xgap-cell {{ height: 62px; margin: 1px; padding: 2px; font-size: 12px; line-height: 16px; white-space: pre-line;
  border: 1px solid #CCC; }}
.xgap .xgap-head {{ height: 34px; font-weight: 600; font-size: 12px; padding: 2px; margin: 1px; line-height: 15px;
  white-space: normal; }}
</style>"""
