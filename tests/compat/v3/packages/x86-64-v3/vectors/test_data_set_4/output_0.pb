
BprobabilitiesJ(lœ06tü‹6¹¯ƒ5K&6Èý?:O4Jïû69­.7Ï¸6(,µ4