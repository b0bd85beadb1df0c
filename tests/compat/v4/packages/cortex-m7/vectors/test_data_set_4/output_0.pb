
BprobabilitiesJ(lœ06tü‹6¹¯ƒ5K&6Èý?2O4Jïû6/­.7Ï¸6,µ4