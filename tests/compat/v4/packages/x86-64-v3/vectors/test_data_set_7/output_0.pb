
BprobabilitiesJ(y Ë8áuˆ9—Ú½:ü¦§9›¾):RÎ9²8&6e*?—,8Ð›ž9