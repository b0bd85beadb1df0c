
BprobabilitiesJ(	ª“5Êç?,Ä)6éÖ†6E°­9ö65Äa5u€”7m¸·6ÛUÄ6