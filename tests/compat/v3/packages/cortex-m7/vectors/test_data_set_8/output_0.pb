
BprobabilitiesJ(_$8&á;–ó9I≤Ô8∂é:wÆ6†c∂:ê0–6y~?Ñ—: