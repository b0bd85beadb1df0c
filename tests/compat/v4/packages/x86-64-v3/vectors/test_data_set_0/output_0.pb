
BprobabilitiesJ(iï?¦ÿ‚6O¬î5J_8Üü–6«ü7™§÷8°ÕG6×™8¾«ù6