
BprobabilitiesJ(šQ6¢v
7•Ú 6gf:9Õ5L8­š’8ÝµÉ3´7ÎŒB7Vê?