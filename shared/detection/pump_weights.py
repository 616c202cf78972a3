"""The pump model's numbers, in the order of `pump.FEATURES`.

Printed by `benchmarks/pump_evaluation.py FOLDER --train`: a logistic regression (C = 1) on the 104 openly labelled
events of 2018-06 to 2021-01 (Binance spot, pairs against BTC); onsets by the labels of 5 s and 25 s, each event of
equal weight. A change here is a new VERSION, which every stored signal carries.
"""

VERSION = "1"
CENTRES = (2.1537, 2.3060, 0.7188, 2.3453, 0.0149, 2.0854, 1.6842, -2.0556, -1.2934)
SCALES = (1.2516, 1.4074, 0.6058, 0.8665, 0.0370, 1.6723, 1.1389, 1.7841, 1.1337)
WEIGHTS = (-0.6065, 1.2814, 1.3160, 0.9617, 1.0054, 1.3536, -1.2214, 0.5406, 0.5483)
INTERCEPT = -6.1772
