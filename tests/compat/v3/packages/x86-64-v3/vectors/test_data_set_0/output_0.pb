
BprobabilitiesJ(iï?¦ÿ‚6O¬î5R_8åü–6«ü7™§÷8£ÕG6Î™8¾«ù6