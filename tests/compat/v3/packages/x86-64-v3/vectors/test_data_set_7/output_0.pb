
BprobabilitiesJ(† Ë8éuˆ9£Ú½:§§9 ¾):RÎ9¼8&6e*?—,8Ú›ž9