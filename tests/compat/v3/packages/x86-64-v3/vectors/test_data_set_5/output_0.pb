
BprobabilitiesJ(³,;:Cõ;÷Ùï9[å ;öâ:&v?²m<üä–9´(<:C«: