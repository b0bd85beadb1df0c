
BprobabilitiesJ(ª“5Êç?7Ä)6éÖ†6P°­9ö65Äa5~€”7m¸·6çUÄ6