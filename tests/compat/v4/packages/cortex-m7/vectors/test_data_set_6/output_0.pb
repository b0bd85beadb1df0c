
BprobabilitiesJ(}©7‹J9‚19§¨"6âÄ9L€Õ7§Ê?ÁR,6´Ô7d¸š3