
BprobabilitiesJ(¸,;ICõ;Úï9eå ;&öâ:&v?²m<üä–9·(<FC«: